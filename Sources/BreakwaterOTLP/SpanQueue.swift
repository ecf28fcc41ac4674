import Breakwater
import Metrics
import Synchronization

/// Spans that have ended and wait to be sent. The queue is bounded: spans that do not fit are dropped and counted.
final class SpanQueue: Sendable {
    fileprivate struct State {
        var spans: [OTLPSpan] = []
        var waiter: CheckedContinuation<Void, Never>?
        var isWanted = false
    }

    private let limit: Int
    /// The size of a full batch, which is sent at once.
    private let batch: Int
    private let state = Mutex(State())
    private let dropped: Counter

    init(limit: Int, batch: Int, metrics: any MetricsFactory) {
        self.limit = limit
        self.batch = min(batch, limit)
        dropped = Metric.spans.counter("dropped", in: metrics)
    }

    func add(_ span: OTLPSpan) {
        let (isKept, waiter) = state.withLock { state -> (Bool, CheckedContinuation<Void, Never>?) in
            guard state.spans.count < limit else { return (false, nil) }
            state.spans.append(span)
            guard state.spans.count >= batch else { return (true, nil) }
            return (true, state.wake())
        }
        if !isKept { dropped.increment() }
        waiter?.resume()
    }

    /// Resumes the waiting task.
    func requestSending() {
        state.withLock { $0.wake() }?.resume()
    }

    /// Waits for a full batch, or until ``requestSending()`` is called. One task may wait at a time.
    func wait() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let goesOn = state.withLock { state in
                    if state.isWanted || state.spans.count >= batch || Task.isCancelled {
                        state.isWanted = false
                        return true
                    }
                    state.waiter = continuation
                    return false
                }
                if goesOn { continuation.resume() }
            }
        } onCancel: {
            requestSending()
        }
    }

    /// The oldest spans, at most a batch of them.
    func dequeueBatch() -> [OTLPSpan] {
        state.withLock { state in
            let taken = Array(state.spans.prefix(batch))
            state.spans.removeFirst(taken.count)
            return taken
        }
    }
}

extension SpanQueue.State {
    fileprivate mutating func wake() -> CheckedContinuation<Void, Never>? {
        guard let waiter else {
            isWanted = true
            return nil
        }
        self.waiter = nil
        return waiter
    }
}
