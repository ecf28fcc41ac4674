import Libpq
import Logging
import Synchronization

/// Settles over a connection of its own while the claim loop claims, as long as there is a backlog.
///
/// A few jobs are best settled in the transaction that claims the next: one commit, one round trip. With thousands
/// waiting, what counts is the server's time, and over two connections it settles one batch while it claims another.
///
/// The claim loop gives it a batch, and neither gives another nor settles anything itself before it has the answer: so a
/// claim is never struck off before its runs are settled, and only the claim loop ever decides what to settle.
final class SettleLoop: Sendable {
    /// What became of a batch.
    struct Answer {
        var settle: Settle
        var result: Result<Settle.Output, PostgresError>
    }

    private enum State {
        /// Has no connection. Goes to `ready`.
        case away
        /// Goes to `given`, or `away` when the connection is lost or not wanted any more.
        case ready
        /// Goes to `answered`.
        case given(Settle)
        /// The claim loop has not read it yet. Goes to `ready`, or to `away` when it was the connection that failed.
        case answered(Answer)
    }

    /// Not before so long after the last failure is a connection tried again: it is a help, not a need.
    private static let pause = Duration.seconds(5)

    private let state = Mutex(State.away)
    private let isWanted = Mutex(false)
    /// Raised when there is something to do, or nothing any more.
    private let work = Signal()
    /// Raised when there is an answer.
    private let answers = Signal()

    /// Asks for help, or says that it is not needed any more; then the connection is closed.
    func want(_ isWanted: Bool) {
        let isNews = self.isWanted.withLock { old in
            defer { old = isWanted }
            return old != isWanted
        }
        if isNews { work.raise() }
    }

    /// Gives it a batch.
    ///
    /// - Returns: False if it has no connection; the batch is the caller's then.
    func take(_ settle: Settle) -> Bool {
        let isTaken = state.withLock { state in
            guard case .ready = state else { return false }
            state = .given(settle)
            return true
        }
        if isTaken { work.raise() }
        return isTaken
    }

    /// Whether ``take(_:)`` would take a batch.
    var isReady: Bool { state.withLock { if case .ready = $0 { true } else { false } } }

    /// Whether there is an answer to the last batch that was not read yet.
    var hasAnswer: Bool { state.withLock { if case .answered = $0 { true } else { false } } }

    /// Waits for the answer to the last batch, if it was not read yet. Nil as well when the task is cancelled.
    nonisolated(nonsending) func answer() async -> Answer? {
        while !Task.isCancelled {
            switch state.withLock({ $0 }) {
            case .away, .ready: return nil
            case .given: await answers.wait()
            case .answered(let answer):
                let isUsable = (try? answer.result.get()) != nil
                state.withLock { $0 = isUsable ? .ready : .away }
                work.raise()
                return answer
            }
        }
        return nil
    }

    /// Runs for a worker until it is cancelled.
    func run(_ engine: Engine) async {
        while !Task.isCancelled {
            await work.wait()
            guard isWanted.withLock(\.self) else { continue }
            do {
                let connection = try await Connection.connect(
                    engine.configuration.database,
                    logger: engine.loggers.database,
                    onNotice: engine.loggers.logCircuit
                )
                await serve(engine, on: connection)
                await connection.close()
            } catch {
                engine.loggers.database.info("no connection to settle over", metadata: ["error": "\(error)"])
            }
            guard isWanted.withLock(\.self) else { continue }
            try? await Task.sleep(for: Self.pause)
            work.raise()
        }
    }

    /// Settles what it is given until the connection fails or is not wanted any more.
    private func serve(_ engine: Engine, on connection: isolated Connection) async {
        state.withLock { $0 = .ready }
        while true {
            let given: Settle? = state.withLock { if case .given(let settle) = $0 { settle } else { nil } }
            if let settle = given {
                let sent = Moment.now
                let result: Result<Settle.Output, PostgresError>
                do {
                    result = .success(try await connection.call(settle, timeout: engine.timeout))
                    engine.metrics.record(.settle, since: sent)
                } catch {
                    result = .failure(error)
                }
                state.withLock { $0 = .answered(Answer(settle: settle, result: result)) }
                answers.raise()
            }
            await work.wait()
            let ends = state.withLock { state in
                switch state {
                case .away: return true
                case .given: return false
                // Whoever is to read it may be gone.
                case .answered: return Task.isCancelled
                case .ready:
                    guard connection.isClosed || Task.isCancelled || !isWanted.withLock(\.self) else { return false }
                    state = .away
                    return true
                }
            }
            if ends { return }
        }
    }
}
