import Breakwater
import Libpq
import Synchronization

/// What a benchmark works on: kinds and queues of its own, all of whose names begin with `bench.`, and jobs spread
/// evenly over them.
struct BenchLoad: Equatable {
    /// What the name of every kind and queue of a benchmark begins with.
    static let prefix = "bench."

    /// How many kinds the jobs are of.
    var kinds = 1
    /// How many queues they are in.
    var queues = 1
    /// How many priorities they have: 1 is 5 alone.
    var priorities = 1
    /// How many more kinds the worker handles, of which there are no jobs.
    var idleKinds = 0
    /// How long each handler takes; zero returns at once.
    var handlerTime = Duration.zero
    /// How many handlers run at once in a worker; nil for the default.
    var concurrency: Int?
    /// The member of the payload that names a job's circuit; nil for one circuit a kind.
    var circuitKey: String?
    /// How often an idle worker looks for jobs; nil for the default.
    var pollInterval: Duration?
    /// Whether an idle worker listens for wake-ups.
    var listens = true

    var kindNames: [String] { (1...kinds).map { "\(Self.prefix)kind\($0)" } }
    var queueNames: [String] { (1...queues).map { "\(Self.prefix)queue\($0)" } }
    var idleKindNames: [String] { (0..<idleKinds).map { "\(Self.prefix)idle\($0 + 1)" } }

    /// A worker for this load: the defaults, where nothing else is asked for.
    func configuration(_ database: ConnectionOptions, plugin: (String) -> any HandlerPlugin) -> WorkerConfiguration {
        var settings = HandlerSettings()
        if let circuitKey { settings.circuit.key = .path([circuitKey]) }
        let handlers = (kindNames + idleKindNames).map { kind in
            HandlerRegistration(kind: kind, plugin: plugin(kind), settings: settings)
        }
        var configuration = WorkerConfiguration(database: database, handlers: handlers)
        configuration.queues = queueNames
        configuration.listens = listens
        if let concurrency { configuration.concurrency = concurrency }
        if let pollInterval { configuration.pollInterval = pollInterval }
        return configuration
    }
}

/// The handler of the benchmarks: it counts its runs, and does nothing for as long as it is told to.
struct IdleHandler: JobHandler {
    /// Whatever the payload holds is ignored, after it has been decoded as any handler's is.
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
    /// What a registration of this handler runs.
    var plugin: any HandlerPlugin { HandlerRegistration(kind: "", handler: self).plugin }
}

/// How often handlers ran, and when the first began.
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
