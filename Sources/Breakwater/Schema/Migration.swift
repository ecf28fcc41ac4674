/// One migration of the schema: a folder of `sql/`, which is applied in one transaction.
struct Migration: Sendable {
    /// One file of a migration, which has one topic.
    struct File: Sendable {
        var name: String
        var sql: String
    }

    var version: Int
    var name: String
    var files: [File]
}
