import Libpq

/// The result of renaming a kind so far.
package struct KindRenaming: Equatable, Sendable {
    package var jobs = 0
    package var deadLetters = 0
    /// Jobs that were not renamed because they run or another session has locked them.
    package var busy = 0
    /// Jobs that were not renamed because a job of the new kind has their unique key.
    package var taken = 0
    package var isComplete = false
    fileprivate var last: Int64?
    fileprivate var audit: Int64?

    package init() {}
}

extension AdminDatabase {
    /// `breakwater.rename_kind_some`: renames the next portion of a kind's jobs and dead letters.
    ///
    /// - Parameters:
    ///   - limit: The most jobs and dead letters to rename.
    ///   - total: The result of the previous portions, to which this portion is added.
    package func renameKind(
        from old: String,
        to new: String,
        limit: Int,
        reason: String?,
        actor: String?,
        total: inout KindRenaming
    ) async throws {
        let row = try await one(
            """
            select jobs, dead_letters, busy, taken, last, is_last, audit
              from breakwater.rename_kind_some($1, $2, $3, $4, $5, coalesce($6, session_user), $7)
            """,
            [
                .text(old), .text(new), .int8(total.last), .int4(Int32(clamping: limit)), .text(reason), .text(actor),
                .int8(total.audit),
            ]
        )
        total.jobs += try row["jobs"].int()
        total.deadLetters += try row["dead_letters"].int()
        total.busy += try row["busy"].int()
        total.taken += try row["taken"].int()
        total.last = try row["last"].int64OrNil()
        total.isComplete = try row["is_last"].bool()
        total.audit = try row["audit"].int64()
    }
}
