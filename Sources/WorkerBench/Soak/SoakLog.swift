import Breakwater
import Synchronization

/// Counts and times that the worker of a soak and the task that adds its jobs share.
final class SoakLog: Sendable {
    private struct State {
        var added = 0
        var succeeded = 0
        var failed = 0
        /// Jobs that are ready and have not started, with the time of their commit.
        var waiting: [Int64: ContinuousClock.Instant] = [:]
        /// Jobs that started before `add` recorded their commit.
        var early: Set<Int64> = []
        var latency = LatencyRecord()
    }

    private let state = Mutex(State())

    var added: Int { state.withLock { $0.added } }
    var succeeded: Int { state.withLock { $0.succeeded } }
    var failed: Int { state.withLock { $0.failed } }

    /// Records jobs that were added, and the ids of those among them that were ready at once.
    func add(_ count: Int, ready: [Int64], committed: ContinuousClock.Instant) {
        state.withLock { state in
            state.added += count
            for id in ready {
                if state.early.remove(id) != nil {
                    state.latency.record(.zero)
                } else {
                    state.waiting[id] = committed
                }
            }
        }
    }

    /// Records the first start of a job that was ready when it was added.
    func start(_ id: Int64) {
        let now = ContinuousClock.now
        state.withLock { state in
            if let committed = state.waiting.removeValue(forKey: id) {
                state.latency.record(now - committed)
            } else {
                state.early.insert(id)
            }
        }
    }

    func end(succeeded: Bool) {
        state.withLock { state in
            if succeeded { state.succeeded += 1 } else { state.failed += 1 }
        }
    }

    /// The latencies since the last call of this method.
    func drainLatency() -> LatencyRecord {
        state.withLock { state in
            let latency = state.latency
            state.latency = LatencyRecord()
            return latency
        }
    }
}

/// The handler of a soak. It fails the first run of a job whose payload asks for that.
struct SoakHandler: HandlerPlugin {
    var log: SoakLog
    var time: Duration

    func run(_ job: Job, context: JobContext) async throws -> JobOutcome {
        let isFirst = job.attempt == 1
        if isFirst, !job.payload.contains(#""later": true"#) { log.start(job.id) }
        if time > .zero { try await Task.sleep(for: time) }
        if isFirst, job.payload.contains(#""fails": true"#) {
            log.end(succeeded: false)
            return .failed(JobFailure("bench.failure", "the first run fails, as it was told to"))
        }
        log.end(succeeded: true)
        return .succeeded()
    }
}
