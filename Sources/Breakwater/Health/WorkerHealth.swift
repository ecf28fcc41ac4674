import Libpq
import Synchronization

/// Whether a worker is alive and ready, as its own loops last reported.
///
/// Answers come from memory and need no call to the database.
public final class WorkerHealth: Sendable {
    /// The result of a check.
    public struct Answer: Sendable, Equatable {
        /// The problems, for operators; empty when there are none. They may name the database's host and role.
        public var reasons: [String]
        /// The problems for any client that can reach the worker. Each reason appears once, without hosts, ports, roles
        /// and messages of the database.
        public var publicReasons: [String]
        /// Whether there are no problems.
        public var isGood: Bool { reasons.isEmpty }

        /// - Parameters:
        ///   - reasons: The problems.
        ///   - publicReasons: The problems for any client. Defaults to `reasons`.
        public init(reasons: [String], publicReasons: [String]? = nil) {
            self.reasons = reasons
            self.publicReasons = publicReasons ?? reasons
        }
    }

    /// How long a loop may take for one iteration. An idle loop iterates several times a second. One call to the
    /// database, one attempt to connect and the pause between them may delay it, and all of these have deadlines.
    static let stallLimit = Duration.seconds(90)

    private enum Phase {
        /// The worker has not registered yet. Goes to `working`.
        case starting
        /// The worker claims and runs jobs. Goes to `draining` or `stopped`.
        case working
        /// The worker runs the jobs that have started, and claims nothing. Goes to `stopped`.
        case draining
        /// The loops have ended. This state is final.
        case stopped
    }

    private struct State {
        var phase = Phase.starting
        var stallLimit = WorkerHealth.stallLimit
        /// When each loop last began an iteration.
        var iterations: [WorkerMetrics.Loop: ContinuousClock.Instant] = [:]
        var lastTick = ContinuousClock.now
        var connected: Set<WorkerMetrics.Loop> = []
        /// The reason why a loop has no connection.
        var faults: [WorkerMetrics.Loop: String] = [:]
        var holdsLease = true
        var schemaFault: String?
    }

    private let state = Mutex(State())

    init() {}

    // MARK: Answers

    /// Whether the loops are running. This does not depend on the database: a worker without one waits, and continues
    /// by itself.
    ///
    /// - Parameter now: The time. Defaults to the current time.
    /// - Returns: The loops that are stuck, if any.
    public func liveness(at now: ContinuousClock.Instant = .now) -> Answer {
        state.withLock { state in
            guard state.phase == .working || state.phase == .draining else { return Answer(reasons: []) }
            var reasons: [String] = []
            if now - state.lastTick > state.stallLimit {
                reasons.append("the clock's loop has been stuck for \((now - state.lastTick).wholeSeconds) s")
            }
            for (loop, turn) in state.iterations.sorted(by: { $0.key.rawValue < $1.key.rawValue })
            where now - turn > state.stallLimit {
                // The loop for wake-ups waits until a notification arrives. The loop for claims ends before the others.
                if loop == .wakeUps || (loop == .claims && state.phase == .draining) { continue }
                reasons.append("the loop for \(loop.rawValue) has been stuck for \((now - turn).wholeSeconds) s")
            }
            return Answer(reasons: reasons)
        }
    }

    /// Whether the worker takes jobs: it is connected, its schema fits, and it is not draining.
    ///
    /// - Returns: The reasons why it takes no jobs, if any.
    public func readiness() -> Answer {
        state.withLock { state in
            switch state.phase {
            case .starting: return Answer(reasons: ["starting: the worker has not registered yet"])
            case .draining: return Answer(reasons: ["draining: the worker claims no more jobs"])
            case .stopped: return Answer(reasons: ["stopped"])
            case .working: break
            }
            var reasons: [String] = []
            var publicReasons: [String] = []
            for loop in [WorkerMetrics.Loop.claims, .beats] where !state.connected.contains(loop) {
                let why = state.faults[loop].map { ": \($0)" } ?? " yet"
                reasons.append("no database connection for \(loop.rawValue)\(why)")
                publicReasons = ["no database connection"]
            }
            if !state.holdsLease {
                let reason = "no beat was answered in time: the worker's lease may have ended"
                reasons.append(reason)
                publicReasons.append(reason)
            }
            if let fault = state.schemaFault {
                reasons.append(fault)
                publicReasons.append("the database's schema is not the one that this worker needs")
            }
            return Answer(reasons: reasons, publicReasons: publicReasons)
        }
    }

    /// Whether a shutdown has begun: the worker claims no more jobs, and finishes the running ones.
    public var isDraining: Bool {
        state.withLock { $0.phase == .draining || $0.phase == .stopped }
    }

    // MARK: Reports of the loops

    func started(lease: Duration) {
        state.withLock { state in
            state.phase = .working
            // A heartbeat may take half a lease.
            state.stallLimit = max(Self.stallLimit, lease)
            state.lastTick = .now
        }
    }

    func drains() { state.withLock { $0.phase = .draining } }

    func stopped() { state.withLock { $0.phase = .stopped } }

    func ticked() { state.withLock { $0.lastTick = .now } }

    func recordIteration(of loop: WorkerMetrics.Loop) { state.withLock { $0.iterations[loop] = .now } }

    func failed(_ loop: WorkerMetrics.Loop, _ fault: String) { state.withLock { $0.faults[loop] = fault } }

    func isConnected(_ loop: WorkerMetrics.Loop) -> Bool { state.withLock { $0.connected.contains(loop) } }

    func record(_ loop: WorkerMetrics.Loop, isConnected: Bool) {
        state.withLock { state in
            if isConnected { state.connected.insert(loop) } else { state.connected.remove(loop) }
        }
    }

    func record(holdsLease: Bool) { state.withLock { $0.holdsLease = holdsLease } }

    /// Checks whether the database still has the schema that this worker needs. A mismatch is only reported; it does
    /// not stop the worker.
    func checkSchema(on connection: Connection) async {
        do {
            try await Schema.check(on: connection)
            state.withLock { $0.schemaFault = nil }
        } catch let error as BreakwaterError {
            state.withLock { $0.schemaFault = error.message }
        } catch {
            // The connection failed. Its next call will fail too.
        }
    }
}

extension Duration {
    fileprivate var wholeSeconds: Int64 { components.seconds }
}
