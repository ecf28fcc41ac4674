extension JobDatabase {
    /// Makes a batch: its callback is a job that runs when all members of the batch have ended.
    ///
    /// A batch that is open gets its members with ``enqueue(_:_:queue:priority:runAt:maxAttempts:uniqueKey:after:onDead:batch:)``
    /// or ``add(_:toBatch:)``, also from its running members, until ``closeBatch(_:)``. The callback's payload gets the
    /// key `batch`, with the counts of the members by their ends. Batches may be members of batches.
    ///
    /// - Parameters:
    ///   - callback: The kind of the callback.
    ///   - payload: The callback's payload, which must encode to a JSON object.
    ///   - queue: The callback's queue. Defaults to `default`.
    ///   - priority: The callback's priority, 0 (first) to 9 (last). Defaults to 5.
    ///   - maxAttempts: The most counted runs of the callback. Defaults to its handler's limit.
    ///   - onDead: What becomes of the callback when a member becomes a dead letter. Defaults to `run`.
    ///   - withResults: Whether the callback's payload gets the members' results too. Defaults to false.
    ///   - isOpen: Whether members can be added after this transaction. Defaults to true.
    ///   - batch: The id of an open batch that this batch joins. Defaults to none.
    /// - Returns: The batch's id, which is that of its callback.
    /// - Throws: `EncodingError`; what the database throws.
    @discardableResult
    public func makeBatch<Payload: Encodable>(
        callback: JobKind<Payload>,
        _ payload: Payload,
        queue: String = "default",
        priority: Int = 5,
        maxAttempts: Int? = nil,
        onDead: OnDead = .run,
        withResults: Bool = false,
        isOpen: Bool = true,
        batch: Int64? = nil
    ) async throws -> Int64 {
        let payload = try encodedJSON(payload)
        return try await idsOfEnqueued(callback.name, queue, bytes: payload.utf8.count) { trace in
            TextStatement(
                """
                select breakwater.batch($1::text, $2::text::jsonb, queue => $3::text, priority => $4::text::int, \
                max_attempts => $5::text::int, on_dead => $6::text, with_results => $7::text::bool, \
                open => $8::text::bool, batch => $9::text::bigint, traceparent => $10::text, \
                tracestate => $11::text)::text
                """,
                [
                    callback.name, payload, queue, "\(priority)", maxAttempts.map(String.init), onDead.rawValue,
                    "\(withResults)", "\(isOpen)", batch.map(String.init), trace.traceparent, trace.tracestate,
                ]
            )
        }.only()
    }

    /// Adds jobs to an open batch.
    ///
    /// - Parameters:
    ///   - jobs: The ids of the jobs. They may have ended already.
    ///   - batch: The batch's id.
    /// - Returns: How many jobs were not members before.
    /// - Throws: What the database throws; SQLSTATE 22023 if there is no such batch, or it is closed.
    @discardableResult
    public func add(_ jobs: [Int64], toBatch batch: Int64) async throws -> Int {
        let added = try await ids(
            of: TextStatement(
                "select breakwater.add_to_batch($1::text::bigint, $2::text::bigint[])::text",
                ["\(batch)", TextStatement.array(jobs)]
            )
        )
        return Int(try added.only())
    }

    /// Closes a batch, so that its callback runs when its members have ended.
    ///
    /// - Parameter batch: The batch's id.
    /// - Returns: False if there is no open batch of this id.
    /// - Throws: What the database throws.
    @discardableResult
    public func closeBatch(_ batch: Int64) async throws -> Bool {
        try await isTrue("breakwater.close_batch($1::text::bigint)", ["\(batch)"])
    }
}
