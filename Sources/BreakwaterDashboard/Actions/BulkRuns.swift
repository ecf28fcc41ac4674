import BreakwaterAdmin
import Foundation
import Libpq
import Logging
import ServiceLifecycle

/// Something done to many dead letters, in portions at a rate.
struct BulkRun: Sendable, Equatable, Identifiable {
    enum Phase: Sendable, Equatable {
        case running
        case finished
        case stopped(by: String)
        /// Why, in words.
        case failed(String)
    }

    var id: Int64
    var action: BulkAction
    var choice: DeadLetterChoice
    /// In words, for people.
    var what: String
    var why: String?
    var actor: String
    /// At most this many a second.
    var perSecond: Int
    var began: Date
    /// How many matched when it began, counted up to a cap.
    var expected: Int
    var done = 0
    var phase = Phase.running
}

/// Runs what was asked for in the background, one after the other, so that a page need not wait for it.
///
/// A run goes in portions, each a transaction of its own: if the dashboard ends in the middle, the portions done stay
/// done, the rest stays as it was, and the audit log says how many were done.
final actor BulkRuns: Service {
    private let database: DatabasePool
    private let logger: Logger
    private var runs: [BulkRun] = []
    private var nextID: Int64 = 1
    private let begun: AsyncStream<Int64>
    private let begin: AsyncStream<Int64>.Continuation

    /// No more than this many wait at once.
    static let mostWaiting = 20
    /// This many of the newest are still shown when they are over.
    private static let mostShown = 10
    private static let portionsPerSecond = 5
    private static let largestPortion = 1000

    init(database: DatabasePool, logger: Logger) {
        self.database = database
        self.logger = logger
        (begun, begin) = AsyncStream.makeStream()
    }

    /// Takes a run in. False when too many wait.
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

    /// The newest first.
    var all: [BulkRun] { runs }

    /// Ends a run after its present portion. False when it is over.
    func stop(_ id: Int64, by actor: String) -> Bool {
        guard let index = runs.firstIndex(where: { $0.id == id && $0.phase == .running }) else { return false }
        runs[index].phase = .stopped(by: actor)
        return true
    }

    /// Works until it is stopped.
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
                        why: run.why,
                        actor: run.actor,
                        audit: previous
                    )
                }
                audit = result.audit
                change(id) { $0.done += result.done }
                // Dead letters whose unique key a newer job has stay where they are, and would be picked again.
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
