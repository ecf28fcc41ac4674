import BreakwaterTesting
import Libpq
import Synchronization

@testable import Breakwater

/// A worker whose every step the test takes, so that the SQL is tested without the worker's loops.
struct HandWorker: Sendable {
    let connection: Connection
    let id: Int64
    let kinds: [String]
    let queues: [String]
    private let configuration: WorkerConfiguration
    private let clock = CircuitTime()

    /// The time that circuits see in this worker's calls. Nil means the server's own time.
    private final class CircuitTime: Sendable { let seconds = Mutex<Double?>(nil) }

    /// Registers on a session of its own.
    init(
        _ database: TestDatabase,
        _ kinds: [String] = ["k"],
        queues: [String] = ["default"],
        // The lease is longer than a test takes on a loaded machine, so a silent worker is lost only where a test says
        // so.
        lease: Duration = .seconds(1800),
        settings: (inout HandlerSettings) -> Void = { _ in }
    ) async throws {
        var rules = HandlerSettings()
        settings(&rules)
        let nothing = ClosureHandler { _, _ in .succeeded() }
        var configuration = WorkerConfiguration(
            database: database.options,
            handlers: kinds.map { HandlerRegistration(kind: $0, plugin: nothing, settings: rules) },
            name: "by hand"
        )
        configuration.queues = queues
        configuration.lease = lease
        connection = try await database.connect()
        id = try await connection.call(Register(configuration: configuration))
        self.kinds = kinds
        self.queues = queues
        self.configuration = configuration
    }

    /// Sets the time that circuits see in this worker's calls from now on, as `seconds` after the start of 2030 on the
    /// server's clock.
    func setClock(_ seconds: Double) { clock.seconds.withLock { $0 = seconds } }

    /// Runs a statement with this worker's clock. The clock is set only for the transaction, because a pooler may run
    /// the next one in another session.
    @discardableResult
    func query(
        _ sql: String,
        _ parameters: [Parameter] = [],
        on other: Connection? = nil
    ) async throws(PostgresError) -> QueryResult {
        try await run(Statement(sql, parameters), on: other)
    }

    /// Makes a call with this worker's clock.
    @discardableResult
    func call<Call: StoreCall>(_ call: Call, on other: Connection? = nil) async throws(PostgresError) -> Call.Output {
        try call.decode(try await run(call.statement, on: other))
    }

    private func run(_ statement: Statement, on other: Connection?) async throws(PostgresError) -> QueryResult {
        let connection = other ?? connection
        guard let seconds = clock.seconds.withLock({ $0 }) else { return try await connection.pipeline([statement])[0] }
        let clock = Statement(
            "select set_config('breakwater.clock', ('2030-01-01'::timestamptz + make_interval(secs => $1))::text, true)",
            [.float8(seconds)]
        )
        return try await connection.pipeline([clock, statement])[1]
    }

    /// Claims at most `count` jobs of all lanes, late ones too.
    func claim(
        _ count: Int = 100,
        room: [String: Int]? = nil,
        isLate: Bool = true,
        on other: Connection? = nil
    ) async throws -> [Job] {
        let claim = Claim(
            worker: id,
            lanes: ActiveLanes(queues: queues, kinds: kinds).all,
            room: kinds.map { ($0, room?[$0] ?? (room == nil ? count : 0), concurrency: 1000) },
            total: count,
            isLate: isLate
        )
        let jobs = try await call(claim, on: other)
        return jobs.sorted { ($0.job.priority, $0.position) < ($1.job.priority, $1.position) }.map(\.job)
    }

    /// Claims a job that must run alone.
    func claimSuspects() async throws -> [Job] {
        try await call(ClaimSuspects(worker: id)).map(\.job)
    }

    /// Sends a heartbeat with the number of its runs.
    @discardableResult
    func beat(running: Int = 0) async throws -> Beat.Output {
        try await call(Beat(worker: id, isDraining: false, running: running))
    }

    /// Puts back rows of its registration that are missing.
    func renewRegistration() async throws {
        try await call(RenewRegistration(worker: id, configuration: configuration))
    }

    /// Settles jobs, all with the same ending.
    @discardableResult
    func settle(
        _ jobs: [Job],
        _ ending: FinishedRun.Ending = .succeeded,
        claims: [Int64] = []
    ) async throws -> Settle.Output {
        try await call(Settle(worker: id, runs: jobs.map { FinishedRun($0, ending) }, claims: claims))
    }

    /// Does the fleet's chores, if it leads.
    @discardableResult
    func maintain() async throws -> Maintain.Output {
        try await call(Maintain(worker: id, term: .seconds(5)))
    }

    /// Ends the checks of circuits that have just opened as if their first probes had failed. The open time begins now.
    func failFirstChecks() async throws {
        try await query(
            """
            update breakwater.circuit
               set is_checked = true,
                   retry_at = breakwater.clock()
                              + breakwater.open_time(breakwater.policy_of(kind, key), reopened)
             where state = 'open' and not is_checked
            """
        )
    }

    /// Claims one job and settles it. Returns false if there was none.
    @discardableResult
    func runOne(_ ending: FinishedRun.Ending) async throws -> Bool {
        let jobs = try await claim(1)
        try await settle(jobs, ending)
        return !jobs.isEmpty
    }
}

extension FinishedRun.Ending {
    static let succeeded = FinishedRun.Ending(outcomeClass: .succeeded)

    static func failed(_ name: String = "broken", delay: Duration = .zero) -> FinishedRun.Ending {
        FinishedRun.Ending(
            outcomeClass: .failed,
            failure: JobFailure(name, "it is \(name)"),
            delay: delay,
            effect: .failed
        )
    }

    static func unavailable(_ name: String = "down", delay: Duration = .zero) -> FinishedRun.Ending {
        FinishedRun.Ending(
            outcomeClass: .unavailable,
            failure: JobFailure(name, "it is \(name)"),
            delay: delay,
            effect: .failed
        )
    }

    static func throttled(delay: Duration = .zero) -> FinishedRun.Ending {
        FinishedRun.Ending(outcomeClass: .throttled, failure: JobFailure("http.429", "too many"), delay: delay)
    }

    static let discarded = FinishedRun.Ending(outcomeClass: .discarded, failure: JobFailure("bad", "it is bad"))

    static func snoozed(_ delay: Duration = .zero) -> FinishedRun.Ending {
        FinishedRun.Ending(outcomeClass: .snoozed, delay: delay)
    }
}

/// The reason why tests that need the server are skipped.
let needsServer = "BREAKWATER_TEST_DATABASE is not set"

extension TestDatabase {
    /// Enqueues jobs with a plain INSERT.
    func insert(_ count: Int = 1, kind: String = "k", maxAttempts: Int? = nil) async throws {
        try await query(
            "insert into breakwater.job (kind, max_attempts) select $1, $2 from generate_series(1, $3)",
            [.text(kind), .int4(maxAttempts.map { Int32($0) }), .int4(Int32(count))]
        )
    }

    func count(_ table: String) async throws -> Int { try await number("select count(*) from breakwater.\(table)") }

    /// The number of claims that still have jobs. A lane's newest claim stays, without jobs, when its jobs have ended.
    func claimsWithJobs() async throws -> Int {
        try await number("select count(*) from breakwater.claim where jobs <> '{}'")
    }

    /// The jobs that some claim holds, by id.
    func heldJobs() async throws -> [Int64] { try await numbers("select job from breakwater.held order by job") }
}

/// The error that a body throws, so that a test can check its message.
func postgresError(_ body: () async throws -> Void) async -> PostgresError? {
    do {
        try await body()
        return nil
    } catch {
        return error as? PostgresError
    }
}
