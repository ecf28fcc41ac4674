import BreakwaterAdmin
import Foundation
import Libpq
import Logging
import ServiceLifecycle

/// A change to many dead letters, made in portions at a limited rate.
struct BulkRun: Sendable, Equatable, Identifiable {
    enum Phase: Sendable, Equatable {
        case running
        case finished
        case stopped(by: String)
        /// The run failed for this reason.
        case failed(String)
    }

    var id: Int64
    var action: BulkAction
    var choice: DeadLetterChoice
    /// A description for people.
    var what: String
    var reason: String?
    var actor: String
    /// The most dead letters that are changed a second.
    var perSecond: Int
    var began: Date
    /// How many dead letters matched when the run began, counted up to a cap.
    var expected: Int
    var done = 0
    var phase = Phase.running
}

/// Executes bulk runs in the background, one after the other, so that a page need not wait for them.
///
/// A run changes its dead letters in portions, each in its own transaction. If the dashboard ends in the middle, the
/// finished portions are kept, the rest is unchanged, and the audit log says how many were changed.
final actor BulkRuns: Service {
    private let database: DatabasePool
    private let logger: Logger
    private var runs: [BulkRun] = []
    private var nextID: Int64 = 1
    private let begun: AsyncStream<Int64>
    private let begin: AsyncStream<Int64>.Continuation

    /// The most runs that may wait or run at once.
    static let mostWaiting = 20
    /// How many of the newest ended runs are still shown.
    private static let mostShown = 10
    private static let portionsPerSecond = 5
    private static let largestPortion = 1000

    init(database: DatabasePool, logger: Logger) {
        self.database = database
        self.logger = logger
        (begun, begin) = AsyncStream.makeStream()
    }

    /// Adds a run. Returns false when too many are waiting.
    func add(_ run: BulkRun) -> Bool {
        guard runs.count(where: { $0.phase == .running }) < Self.mostWaiting else { return false }
        var run = run
        run.id = nextID
        nextID += 1
        runs.insert(run, at: 0)
        let over = runs.indices.filter { runs[$0].phase != .running }.dropFirst(Self.mostShown)
        for index in over.reversed() { runs.remove(at: index) }
        begin.yield(run.id)
        return true
    }

    /// All runs, the newest first.
    var all: [BulkRun] { runs }

    /// Stops a run after its current portion. Returns false when it has already ended.
    func stop(_ id: Int64, by actor: String) -> Bool {
        guard let index = runs.firstIndex(where: { $0.id == id && $0.phase == .running }) else { return false }
        runs[index].phase = .stopped(by: actor)
        return true
    }

    /// Executes runs until the service is stopped.
    func run() async throws {
        for await id in begun.cancelOnGracefulShutdown() { await work(on: id) }
    }

    private func work(on id: Int64) async {
        var audit: Int64?
        while !Task.isCancelled, !Task.isShuttingDownGracefully,
            let run = runs.first(where: { $0.id == id && $0.phase == .running })
        {
            let start = ContinuousClock.now
            let portion = min(Self.largestPortion, max(1, run.perSecond / Self.portionsPerSecond))
            do {
                let previous = audit
                let result = try await database.with { admin in
                    try await admin.apply(
                        run.action,
                        to: run.choice,
                        limit: portion,
                        reason: run.reason,
                        actor: run.actor,
                        audit: previous
                    )
                }
                audit = result.audit
                change(id) { $0.done += result.done }
                // Dead letters whose unique key a newer job has are left unchanged. The next portion would pick them
                // again, so a portion without any change ends the run.
                if result.picked < portion || result.done == 0 {
                    change(id) { if $0.phase == .running { $0.phase = .finished } }
                    return
                }
            } catch {
                logger.error("a bulk run failed", metadata: ["action": "\(run.action)", "error": "\(error)"])
                let message = (error as? PostgresError)?.message ?? "\(error)"
                change(id) { $0.phase = .failed(message) }
                return
            }
            try? await Task.sleep(until: start + .seconds(1) * portion / run.perSecond, clock: .continuous)
        }
    }

    private func change(_ id: Int64, _ body: (inout BulkRun) -> Void) {
        guard let index = runs.firstIndex(where: { $0.id == id }) else { return }
        body(&runs[index])
    }
}
