import CLibpq
import Glibc
import Logging

/// The owner of one `PGconn`: what ``Connection`` shows, done on the connection's own thread and nowhere else.
///
/// Its executor is that thread. The thread asks ``prepareToWait()`` what to wait for and calls ``socketIsReady()``;
/// calls come in as ``run(_:timeout:)``. It is apart from ``Connection`` so that the thread, which holds the wire, does
/// not keep a connection alive that has no other references.
actor Wire {
    /// idle → opening → open → closed; idle and opening may go to closed at once.
    enum Phase {
        case idle
        /// libpq is at work on the connection.
        case opening(Opening)
        case open
        /// The `PGconn` is gone.
        case closed
    }

    nonisolated let loop: EventLoop
    nonisolated let end = ConnectionEnd()
    nonisolated let notifications: AsyncStream<Notification>
    let notificationSink: AsyncStream<Notification>.Continuation
    let notices: NoticeLog
    let logger: Logger

    nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }

    var phase = Phase.idle
    /// Nil before opening and after the end; only this actor's thread touches it.
    var connection: OpaquePointer?
    var pipeline = PipelineState()
    var calls: [PipelineState.UnitID: Call] = [:]
    var lastID: PipelineState.UnitID = 0
    var mustFlush = false
    /// Whether a pooler is in between, or that is not known yet. Then nothing is ever cancelled on the server: a pooler
    /// may have given the session to another client by the time the request arrives, and some poolers end themselves
    /// over one.
    var isPooled = true

    /// The longest deadline, so that no instant overflows.
    static let maximumTimeout = Duration.seconds(365 * 86_400)
    /// How many notifications are kept for a listener that is slow; the oldest are dropped.
    static let maximumNotifications = 1_024

    init(loop: EventLoop, logger: Logger, onNotice: NoticeLog.Hook?) {
        self.loop = loop
        self.logger = logger
        notices = NoticeLog(logger: logger, hook: onNotice)
        (notifications, notificationSink) = AsyncStream.makeStream(
            bufferingPolicy: .bufferingNewest(Self.maximumNotifications)
        )
    }

    /// Does all that can be done without waiting, and says what to wait for; nil when the connection has ended.
    func prepareToWait() -> EventLoop.Interest? {
        switch phase {
        case .idle: return EventLoop.Interest()
        case .opening: return prepareToWaitForOpening()
        case .open: break
        case .closed: return nil
        }
        expire()
        repeat {
            sendWaiting()
            flush()
            readAnswers()
        } while connection != nil && pipeline.canSend
        readNotifications()
        guard case .open = phase, let connection else { return nil }
        return EventLoop.Interest(
            socket: PQsocket(connection),
            events: Int16(POLLIN) | (mustFlush ? Int16(POLLOUT) : 0),
            deadline: pipeline.nextDeadline
        )
    }

    /// Takes in what the socket has.
    func socketIsReady() {
        if case .opening = phase { return continueOpening() }
        guard case .open = phase, let connection else { return }
        guard PQconsumeInput(connection) == 1 else {
            // What came before the end is answered first: it may be the reason.
            readAnswers()
            readNotifications()
            return closeAsLost()
        }
    }

    /// Ends the connection: frees libpq's part and answers every call. A second end does nothing.
    ///
    /// `except` is the call that causes the end, with an error of its own. The server is asked to stop what it runs,
    /// unless it is gone already.
    func close(
        _ reason: PostgresError,
        except: (id: PipelineState.UnitID, error: PostgresError)? = nil,
        isServerGone: Bool = false
    ) {
        if case .closed = phase { return }
        if case .opening(let opening) = phase { opening.continuation.resume(returning: .failure(reason)) }
        if let connection {
            if pipeline.head != nil, !isServerGone, !isPooled { CancelRequest(connection)?.send { _ in } }
            PQfinish(connection)
        }
        connection = nil
        phase = .closed
        let (abandoned, unsent) = (calls, Set(pipeline.waiting.map(\.id)))
        calls = [:]
        // Set before the calls are answered: a caller that sees its call fail also sees the connection closed.
        end.set(reason)
        for (id, call) in abandoned {
            var error = reason
            error.code = .connectionLost
            error.message += unsent.contains(id) ? "; the call was not sent" : "; what became of the call is not known"
            if let except, except.id == id { error = except.error }
            call.answer.ended(.failure(error))
        }
        notificationSink.finish()
    }

    /// Ends the connection with what libpq and the server last said; does nothing when it has ended already.
    func closeAsLost() {
        guard let connection else { return }
        var reason = notices.lastFatal ?? PostgresError(.connectionLost, PostgresError.lastMessage(of: connection))
        reason.statement = nil
        if reason.message.isEmpty { reason.message = "the server closed the connection" }
        close(reason, isServerGone: true)
    }

    func flush() {
        guard let connection else { return }
        // A failure to write is not the end: libpq keeps it until what the server said before has been read.
        mustFlush = PQflush(connection) == 1
    }

    private func readNotifications() {
        guard let connection else { return }
        while let notify = PQnotifies(connection) {
            notificationSink.yield(
                Notification(
                    channel: String(cString: notify.pointee.relname),
                    payload: String(cString: notify.pointee.extra),
                    backendPID: notify.pointee.be_pid
                )
            )
            PQfreemem(notify)
        }
    }
}
