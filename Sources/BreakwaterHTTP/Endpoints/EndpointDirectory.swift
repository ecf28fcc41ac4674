import Breakwater
public import Libpq
public import Logging
public import ServiceLifecycle
import Synchronization

/// Reads endpoints, the rows of `breakwater.endpoint`, for the handlers that send jobs to them, and reports which of
/// them fail.
///
/// Run one beside the worker, over one connection of its own, for all handlers. A row is read again when it is needed
/// and older than five seconds, so a change takes effect within seconds. A missing row and that of a disabled endpoint
/// are always read again, so jobs go on as soon as it is added or enabled. Rows that are needed at the same time are
/// read with one query. While the database is away, rows of enabled endpoints that were read in the last ten minutes are
/// still used; other jobs are retried.
///
/// ```swift
/// let directory = EndpointDirectory(database: ConnectionOptions(url))
/// let deliver = try HTTPPlugin(endpointAt: ["endpoint"], in: directory)
/// ```
public final class EndpointDirectory: Service {
    /// The result of a search.
    enum Answer: Sendable {
        case found(EndpointRow)
        /// There is no such endpoint.
        case none
        /// The database did not answer in time, for this reason.
        case unreachable(String)
        case cancelled
    }

    /// How long a row is used before it is read again.
    private let freshness: Duration
    /// How long a row is used if it cannot be read again.
    private static let staleness = Duration.seconds(600)
    /// How long a job waits for a row that cannot be read.
    private static let longestWait = Duration.seconds(10)
    /// The time until a kind is registered again after that has failed.
    private static let registerDelay = Duration.seconds(30)
    /// The time until a kind is registered again whose handler the worker has not registered yet.
    private static let handlerDelay = Duration.seconds(2)
    /// The most rows that are kept.
    private static let mostRows = 10_000
    /// The time between reports of deliveries, and between attempts to read.
    private static let tick = Duration.seconds(1)

    /// The row of an enabled endpoint. Others are always read again.
    private struct Cached {
        var row: EndpointRow
        var readAt: ContinuousClock.Instant
    }

    private struct Waiter {
        var name: String
        var until: ContinuousClock.Instant
        var continuation: CheckedContinuation<Answer, Never>
    }

    private struct State {
        var database: ConnectionOptions?
        var logger: Logger?
        var rows: [String: Cached] = [:]
        var waiters: [Int: Waiter] = [:]
        var lastWaiter = 0
        var kinds: [String: RegisterEndpointKinds.Kind] = [:]
        /// The kinds that are not registered yet, and when each is due.
        var unregistered: [String: ContinuousClock.Instant] = [:]
        /// When kinds are registered again after that has failed.
        var registerAgain = ContinuousClock.now
        var calls = EndpointCalls()
        var lastProblem = "the directory of endpoints is not running beside the worker"
        var isRunning = false

        /// The next kind to register.
        var kindToRegister: RegisterEndpointKinds.Kind? {
            let now = ContinuousClock.now
            guard registerAgain <= now, let next = unregistered.min(by: { $0.value < $1.value }), next.value <= now
            else { return nil }
            return kinds[next.key]
        }

        mutating func takeWaiters(where isTaken: (Waiter) -> Bool) -> [Waiter] {
            let taken = waiters.filter { isTaken($0.value) }
            for id in taken.keys { waiters[id] = nil }
            return Array(taken.values)
        }
    }

    private let state: Mutex<State>
    private let signals: AsyncStream<Void>
    private let signal: AsyncStream<Void>.Continuation

    /// A directory that reads the endpoints of this database.
    ///
    /// - Parameters:
    ///   - database: The worker's database.
    ///   - logger: Receives which endpoints were disabled. Defaults to the label `breakwater.webhooks`.
    public convenience init(database: ConnectionOptions, logger: Logger = Logger(label: "breakwater.webhooks")) {
        self.init()
        use(database, logger: logger)
    }

    /// A directory whose database is given later.
    package init(freshness: Duration = .seconds(5)) {
        self.freshness = freshness
        state = Mutex(State())
        (signals, signal) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Sets the database, before the directory runs.
    package func use(_ database: ConnectionOptions, logger: Logger) {
        state.withLock { state in
            state.database = database
            state.logger = logger
        }
    }

    // MARK: For handlers

    /// How many jobs wait for a row.
    var waiting: Int { state.withLock { $0.waiters.count } }

    /// Makes the database know that the jobs of a kind are sent to endpoints.
    package func register(_ kind: String, path: [String], rule: EndpointRule) {
        let entry = RegisterEndpointKinds.Kind(
            kind: kind,
            path: path,
            disableAfter: rule.disableAfter?.inSeconds,
            whenDisabled: rule.whenDisabled.rawValue
        )
        let isNew = state.withLock { state in
            if state.kinds[kind] == entry { return false }
            state.kinds[kind] = entry
            state.unregistered[kind] = ContinuousClock.now
            return true
        }
        if isNew { signal.yield() }
    }

    /// Finds an endpoint.
    ///
    /// - Parameters:
    ///   - name: The endpoint's name.
    ///   - limit: The most time that this may take.
    func find(_ name: String, within limit: Duration) async -> Answer {
        await untilRunning(limit)
        let id = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let answer = state.withLock { state -> Answer? in
                    if Task.isCancelled { return .cancelled }
                    guard state.isRunning else { return .unreachable(state.lastProblem) }
                    if let cached = state.rows[name], .now - cached.readAt < freshness { return .found(cached.row) }
                    let until = ContinuousClock.now + min(Self.longestWait, limit / 2)
                    state.waiters[id] = Waiter(name: name, until: until, continuation: continuation)
                    return nil
                }
                if let answer { continuation.resume(returning: answer) } else { signal.yield() }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: id) }?.continuation.resume(returning: .cancelled)
        }
    }

    /// Waits a moment if the directory has not started yet, because it starts at the same time as the worker.
    private func untilRunning(_ limit: Duration) async {
        let end = ContinuousClock.now + min(.seconds(5), limit / 2)
        while !state.withLock({ $0.isRunning }), .now < end, !Task.isCancelled {
            try? await Task.sleep(for: .milliseconds(50))
        }
    }

    /// Records that a delivery succeeded.
    func succeeded(_ kind: String, _ name: String, wasFailing: Bool) {
        state.withLock { $0.calls.succeeded(kind, name, wasFailing: wasFailing) }
    }

    /// Records that a delivery failed.
    func failed(_ kind: String, _ name: String, _ message: String, isGone: Bool) {
        state.withLock { $0.calls.failed(kind, name, message, isGone: isGone) }
    }

    // MARK: The service

    /// Reads and reports until shutdown. Jobs that still wait for a row then are answered.
    public func run() async throws {
        var connection: Connection?
        state.withLock { $0.isRunning = true }
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                // Deliveries are reported, and reading is tried again, with the next tick.
                await cancelWhenGracefulShutdown {
                    while !Task.isCancelled {
                        try? await Task.sleep(for: Self.tick)
                        self.signal.yield()
                    }
                }
            }
            for await _ in signals.cancelOnGracefulShutdown() {
                await work(&connection)
                expire()
            }
            group.cancelAll()
        }
        // The last deliveries are reported before the end.
        if let connection { await report(connection, isLast: true) }
        await connection?.close()
        state.withLock { $0.isRunning = false }
        answerAll(.unreachable("the worker is shutting down"))
    }

    /// Does what there is to do, if there is anything.
    private func work(_ connection: inout Connection?) async {
        let isIdle = state.withLock { $0.waiters.isEmpty && $0.kindToRegister == nil && !$0.calls.isDue() }
        if isIdle { return }
        do {
            let connection = try await self.connection(&connection)
            try await read(connection)
            await report(connection)
            await register(connection)
        } catch {
            await connection?.close()
            connection = nil
            failed("\(error)")
            // Another attempt comes with the next tick, not with the next job.
            try? await Task.sleep(for: Self.tick)
        }
    }

    private func connection(_ connection: inout Connection?) async throws -> Connection {
        if let connection, !connection.isClosed { return connection }
        let (database, logger) = state.withLock { ($0.database, $0.logger) }
        guard let database, let logger else { throw DirectoryProblem(description: "the directory has no database") }
        let opened = try await Connection.connect(database, logger: logger)
        connection = opened
        try await opened.useOwnSettings()
        return opened
    }

    /// Registers one kind, so that jobs which need a row wait for no other. If that fails, it is tried again later:
    /// deliveries do not need it. It is also done again while the kind's handler is not registered, because disabled
    /// endpoints are not held until then.
    private func register(_ connection: Connection) async {
        let (kind, logger) = state.withLock { ($0.kindToRegister, $0.logger) }
        guard let kind else { return }
        do {
            let isComplete = try await connection.call(RegisterEndpointKinds(kinds: [kind]), timeout: .seconds(8))
            state.withLock { state in
                // Its rule may have changed meanwhile.
                guard state.kinds[kind.kind] == kind else { return }
                state.unregistered[kind.kind] = isComplete ? nil : ContinuousClock.now + Self.handlerDelay
            }
            signal.yield()
        } catch {
            state.withLock { state in
                // The next attempt is for the kind that has waited longest.
                state.unregistered[kind.kind] = ContinuousClock.now
                state.registerAgain = .now + Self.registerDelay
            }
            logger?.warning(
                "a kind whose jobs are sent to endpoints could not be registered",
                metadata: ["kind": .string(kind.kind), "error": "\(error)"]
            )
        }
    }

    /// Reads the rows that jobs wait for, and answers them.
    private func read(_ connection: Connection) async throws {
        let names = state.withLock { state in Set(state.waiters.values.map(\.name)) }
        guard !names.isEmpty else { return }
        let rows = try await connection.call(EndpointsNamed(names: Array(names)), timeout: .seconds(10))
        let found = Dictionary(rows.map { ($0.name, $0) }) { first, _ in first }
        let now = ContinuousClock.now
        let answers = state.withLock { state in
            if state.rows.count + found.count > Self.mostRows {
                state.rows = state.rows.filter { now - $0.value.readAt < freshness }
            }
            // Jobs must not be refused for an endpoint that has just been added or enabled, so other rows are not kept.
            for name in names {
                state.rows[name] = found[name].flatMap { row in
                    row.disabledReason == nil ? Cached(row: row, readAt: now) : nil
                }
            }
            return state.takeWaiters(where: { names.contains($0.name) })
        }
        for waiter in answers {
            waiter.continuation.resume(returning: found[waiter.name].map { .found($0) } ?? Answer.none)
        }
    }

    /// Reports how deliveries ended. If that fails, they are reported with the next report.
    private func report(_ connection: Connection, isLast: Bool = false) async {
        let (batch, logger) = state.withLock { ($0.calls.take(isLast: isLast), $0.logger) }
        guard !batch.isEmpty else { return }
        do {
            let disabled = try await connection.call(RecordEndpointCalls(calls: batch.calls), timeout: .seconds(10))
            guard !disabled.isEmpty else { return }
            state.withLock { state in for name in disabled { state.rows[name] = nil } }
            for name in disabled {
                logger?.warning("an endpoint was disabled by its rule", metadata: ["endpoint": .string(name)])
            }
        } catch {
            state.withLock { $0.calls.putBack(batch) }
            logger?.debug("failed deliveries to endpoints could not be reported", metadata: ["error": "\(error)"])
        }
    }

    /// Answers jobs with rows that were read before, after reading has failed.
    ///
    /// A row that was missing or disabled may have been added or enabled since, and its job would become a dead letter. So
    /// such a job waits on, and is retried if the database stays away.
    private func failed(_ problem: String) {
        let now = ContinuousClock.now
        let answers = state.withLock { state -> [(Waiter, Answer)] in
            state.lastProblem = problem
            let usable = state.rows.compactMapValues { now - $0.readAt < Self.staleness ? $0.row : nil }
            let waiters = state.takeWaiters(where: { usable[$0.name] != nil })
            return waiters.compactMap { waiter in usable[waiter.name].map { (waiter, .found($0)) } }
        }
        for (waiter, answer) in answers { waiter.continuation.resume(returning: answer) }
    }

    /// Answers jobs that have waited long enough.
    private func expire() {
        let now = ContinuousClock.now
        let (answers, problem) = state.withLock { state in
            (state.takeWaiters(where: { $0.until <= now }), state.lastProblem)
        }
        for waiter in answers { waiter.continuation.resume(returning: .unreachable(problem)) }
    }

    private func answerAll(_ answer: Answer) {
        for waiter in state.withLock({ $0.takeWaiters(where: { _ in true }) }) {
            waiter.continuation.resume(returning: answer)
        }
    }
}

/// The reason why endpoints cannot be read.
private struct DirectoryProblem: Error, CustomStringConvertible {
    var description: String
}
