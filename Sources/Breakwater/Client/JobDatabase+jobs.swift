public import Foundation

extension BreakwaterClient {
    /// A live job, as `breakwater.job_status` shows it.
    public struct LiveJob: Sendable, Equatable, Decodable, Identifiable {
        /// The job's id.
        public var id: Int64
        /// The job's kind.
        public var kind: String
        /// The job's queue.
        public var queue: String
        /// The priority, 0 (first) to 9 (last).
        public var priority: Int
        /// What the job does or waits for, such as `running`, `ready`, `retrying` or `circuit_open`.
        public var state: String
        /// The state in words, with the reason why the job does not run.
        public var why: String
        /// The number of its counted run: of the current one while it runs, otherwise of the last one.
        public var attempt: Int
        /// The most counted runs; nil as long as no worker has registered the kind.
        public var maxAttempts: Int?
        /// The payload as JSON text.
        public var payload: String
        /// When the job was enqueued.
        public var enqueuedAt: Date
        /// When the job is due, if it waits for a time.
        public var runAt: Date?
        /// How much of the work is done, from 0 to 1, if the running handler has reported it.
        public var fraction: Double?
        /// What is being done, if the running handler has reported it.
        public var note: String?
    }

    /// A job that was given up, as `breakwater.dead_letter` keeps it.
    public struct DeadLetter: Sendable, Equatable, Decodable, Identifiable {
        /// The job's id.
        public var id: Int64
        /// The job's kind.
        public var kind: String
        /// The job's queue.
        public var queue: String
        /// Why it is a dead letter, such as `exhausted`, `discarded`, `poison` or `cancelled`.
        public var reason: String
        /// The name and the message of its last failure.
        public var lastError: String?
        /// How many counted runs it had.
        public var attempt: Int
        /// The payload as JSON text.
        public var payload: String
        /// When the job was enqueued.
        public var enqueuedAt: Date
        /// When it became a dead letter.
        public var diedAt: Date
    }
}

extension JobDatabase {
    /// A job that waits or runs.
    ///
    /// - Parameter id: The job's id.
    /// - Returns: The job; nil if it has ended or never existed.
    /// - Throws: What the database throws.
    public func job(_ id: Int64) async throws -> BreakwaterClient.LiveJob? {
        let jobs: [BreakwaterClient.LiveJob] = try await rows(
            """
            id, kind, queue, priority, state, why, attempt, max_attempts, payload::text as payload, \
            extract(epoch from enqueued_at) as enqueued_at, extract(epoch from nullif(run_at, 'infinity')) as run_at, \
            fraction, note
            """,
            from: "breakwater.job_status where id = $1::text::bigint",
            ["\(id)"]
        )
        return jobs.first
    }

    /// Cancels a job. A job that waits becomes a dead letter with the reason `cancelled`; the worker of a running one is
    /// asked to end its run.
    ///
    /// - Parameters:
    ///   - id: The job's id.
    ///   - reason: Why, for the audit log. Defaults to none.
    /// - Returns: False if there is no such job.
    /// - Throws: What the database throws.
    @discardableResult
    public func cancelJob(_ id: Int64, reason: String? = nil) async throws -> Bool {
        try await isTrue("breakwater.cancel($1::text::bigint, $2::text)", ["\(id)", reason])
    }

    /// Makes a job that waits for its time, also that of a retry, ready now.
    ///
    /// - Parameters:
    ///   - id: The job's id.
    ///   - reason: Why, for the audit log. Defaults to none.
    /// - Returns: False if no such job waits for its time.
    /// - Throws: What the database throws.
    @discardableResult
    public func runJobNow(_ id: Int64, reason: String? = nil) async throws -> Bool {
        try await isTrue("breakwater.run_now($1::text::bigint, $2::text)", ["\(id)", reason])
    }

    // MARK: Dead letters

    /// The dead letters, the newest first.
    ///
    /// - Parameters:
    ///   - kind: Only those of this kind. Defaults to all kinds.
    ///   - reason: Only those with this reason, such as `exhausted`. Defaults to all reasons.
    ///   - limit: The most to return. Defaults to 100.
    /// - Throws: What the database throws.
    public func deadLetters(kind: String? = nil, reason: String? = nil, limit: Int = 100) async throws
        -> [BreakwaterClient.DeadLetter]
    {
        try await rows(
            """
            id, kind, queue, reason, \
            nullif(concat_ws(': ', errors -> -1 ->> 'name', errors -> -1 ->> 'message'), '') as last_error, attempt, \
            payload::text as payload, extract(epoch from enqueued_at) as enqueued_at, \
            extract(epoch from died_at) as died_at
            """,
            from: """
                (select * from breakwater.dead_letter d \
                where ($1::text is null or d.kind = $1::text) and ($2::text is null or d.reason = $2::text) \
                order by d.died_at desc, d.id desc limit $3::text::int) d
                """,
            [kind, reason, "\(limit)"]
        )
    }

    /// Puts a dead letter back as a job with the same id and no attempts spent.
    ///
    /// - Parameters:
    ///   - id: The dead letter's id.
    ///   - payload: Another payload for the job. Defaults to the one that it had.
    ///   - reason: Why, for the audit log. Defaults to none.
    /// - Returns: False if there is no such dead letter.
    /// - Throws: `EncodingError`; what the database throws.
    @discardableResult
    public func redrive(
        _ id: Int64,
        payload: (any Encodable & Sendable)? = nil,
        reason: String? = nil
    ) async throws -> Bool {
        try await isTrue(
            "breakwater.redrive($1::text::bigint, reason => $2::text, payload => $3::text::jsonb)",
            ["\(id)", reason, try payload.map { try encodedJSON($0) }]
        )
    }

    /// Puts the dead letters of a kind back as jobs, the oldest first.
    ///
    /// - Parameters:
    ///   - kind: The kind.
    ///   - diedOf: Only those with this reason, such as `exhausted`. Defaults to all reasons.
    ///   - limit: The most to put back. Defaults to 1000.
    ///   - reason: Why, for the audit log. Defaults to none.
    /// - Returns: How many were put back.
    /// - Throws: What the database throws.
    @discardableResult
    public func redriveAll(
        kind: String,
        diedOf: String? = nil,
        limit: Int = 1000,
        reason: String? = nil
    ) async throws -> Int {
        let redriven = try await ids(
            of: TextStatement(
                "select breakwater.redrive($1::text, $2::text, $3::text::int, $4::text)::text",
                [kind, diedOf, "\(limit)", reason]
            )
        )
        return Int(try redriven.only())
    }

    /// Deletes a dead letter.
    ///
    /// - Parameters:
    ///   - id: The dead letter's id.
    ///   - reason: Why, for the audit log. Defaults to none.
    /// - Returns: False if there is no such dead letter.
    /// - Throws: What the database throws.
    @discardableResult
    public func purge(_ id: Int64, reason: String? = nil) async throws -> Bool {
        try await isTrue("breakwater.purge($1::text::bigint, $2::text)", ["\(id)", reason])
    }
}
