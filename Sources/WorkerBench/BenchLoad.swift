import Breakwater
import Libpq
import Synchronization

/// The jobs of a benchmark, spread evenly over its own kinds and queues. All of their names begin with `bench.`.
struct BenchLoad: Equatable {
    /// The prefix of the names of a benchmark's kinds and queues.
    static let prefix = "bench."

    /// The number of kinds.
    var kinds = 1
    /// The number of queues.
    var queues = 1
    /// The number of priorities. With 1, every job has priority 5.
    var priorities = 1
    /// The number of further kinds that the worker handles and that have no jobs.
    var idleKinds = 0
    /// How long each handler runs. With zero it returns at once.
    var handlerTime = Duration.zero
    /// The concurrency of a worker; nil for the default.
    var concurrency: Int?
    /// The member of the payload that names a job's circuit; nil for one circuit a kind.
    var circuitKey: String?
    /// Whether finished jobs are kept in the history, and the member of the payload that is their key there.
    var history = false
    var historyKey: String?
    /// How often an idle worker polls for jobs; nil for the default.
    var pollInterval: Duration?
    /// Whether an idle worker listens for wake-ups.
    var listens = true
    /// The program that runs the jobs; nil for a handler in Swift.
    var program: BenchProgram?

    var kindNames: [String] { (1...kinds).map { "\(Self.prefix)kind\($0)" } }
    var queueNames: [String] { (1...queues).map { "\(Self.prefix)queue\($0)" } }
    var idleKindNames: [String] { (0..<idleKinds).map { "\(Self.prefix)idle\($0 + 1)" } }

    /// The configuration of a worker for this load. It has the defaults except where the load says otherwise.
    func configuration(
        _ database: ConnectionOptions,
        plugin: (String) throws -> any HandlerPlugin
    ) rethrows -> WorkerConfiguration {
        let handlers = try (kindNames + idleKindNames).map { kind in
            let plugin = try plugin(kind)
            var settings = HandlerSettings()
            if let circuitKey { settings.circuit.key = .path([circuitKey]) }
            if history { settings.history = JobHistory(keep: .seconds(86_400), key: historyKey.map { [$0] }) }
            settings.concurrency = plugin.capacity
            return HandlerRegistration(kind: kind, plugin: plugin, settings: settings)
        }
        var configuration = WorkerConfiguration(database: database, handlers: handlers)
        configuration.queues = queueNames
        configuration.listens = listens
        if let concurrency { configuration.concurrency = concurrency }
        if let pollInterval { configuration.pollInterval = pollInterval }
        return configuration
    }

    /// The configuration of a worker whose handlers do nothing, or run the load's program, and count their runs.
    func configuration(_ database: ConnectionOptions, counting runs: RunCount) throws -> WorkerConfiguration {
        try configuration(database) { _ in
            try program?.plugin(counting: runs) ?? IdleHandler(runs: runs, time: handlerTime).plugin
        }
    }
}

/// The handler of the benchmarks. It counts its runs and sleeps for `time`.
struct IdleHandler: JobHandler {
    /// The payload is decoded as any handler's is, and then ignored.
    struct Payload: Decodable {}

    var runs: RunCount
    var time: Duration

    func handle(_ payload: Payload, context: JobContext) async throws -> JobOutcome {
        runs.add()
        if time > .zero { try await Task.sleep(for: time) }
        return .succeeded()
    }
}

extension JobHandler {
    /// The plugin that a registration of this handler runs.
    var plugin: any HandlerPlugin { HandlerRegistration(kind: "", handler: self).plugin }
}

/// The number of runs, and the start of the first.
final class RunCount: Sendable {
    private let count = Atomic(0)
    private let firstStart = Mutex<ContinuousClock.Instant?>(nil)

    var total: Int { count.load(ordering: .relaxed) }
    var first: ContinuousClock.Instant? { firstStart.withLock(\.self) }

    func add() {
        guard count.add(1, ordering: .relaxed).oldValue == 0 else { return }
        firstStart.withLock { $0 = .now }
    }
}
