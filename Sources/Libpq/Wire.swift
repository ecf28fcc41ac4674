import CLibpq
import Glibc
import Logging

/// The owner of one `PGconn`. It implements ``Connection``, and runs only on the connection's own thread.
///
/// Its executor is that thread. The thread calls ``prepareToWait()`` to learn what to wait for, and then
/// ``socketIsReady()``. Calls are made by ``run(_:timeout:)``. It is separate from ``Connection`` so that the thread,
/// which retains the wire, does not keep a connection alive that has no other references.
actor Wire {
    /// idle → opening → open → closed; idle and opening may go to closed at once.
    enum Phase {
        case idle
        /// libpq is establishing the connection.
        case opening(Opening)
        case open
        /// The `PGconn` has been freed.
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
    /// Nil before opening and after the end. Only this actor's thread uses it.
    var connection: OpaquePointer?
    var pipeline = PipelineState()
    var calls: [PipelineState.UnitID: Call] = [:]
    var lastID: PipelineState.UnitID = 0
    var mustFlush = false
    /// Whether a pooler is in between, or this is not known yet. In that case nothing is ever cancelled on the server,
    /// because a pooler may have assigned the session to another client by the time the request arrives, and some
    /// poolers crash because of one.
    var isPooled = true

    /// The longest deadline, so that no instant overflows.
    static let maximumTimeout = Duration.seconds(365 * 86_400)
    /// The most notifications that are kept for a slow listener. The oldest are dropped.
    static let maximumNotifications = 1_024

    init(loop: EventLoop, logger: Logger, onNotice: NoticeLog.Hook?) {
        self.loop = loop
        self.logger = logger
        notices = NoticeLog(logger: logger, hook: onNotice)
        (notifications, notificationSink) = AsyncStream.makeStream(
            bufferingPolicy: .bufferingNewest(Self.maximumNotifications)
        )
    }

    /// Does all work that is possible without waiting, and returns what to wait for; nil when the connection has ended.
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

    /// Reads from the socket.
    func socketIsReady() {
        if case .opening = phase { return continueOpening() }
        guard case .open = phase, let connection else { return }
        guard PQconsumeInput(connection) == 1 else {
            // Answers that arrived before the end are handled first, because they may contain the reason.
            readAnswers()
            readNotifications()
            return closeAsLost()
        }
    }

    /// Ends the connection: frees libpq's part and answers every call. A second end does nothing.
    ///
    /// `except` is the call that causes the end, with its own error. The server is asked to cancel the running call,
    /// unless the server is gone.
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
        // The end is set before the calls are answered, so that a caller whose call fails also sees that the connection
        // is closed.
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

    /// Ends the connection with the last message of libpq or the server. Does nothing when it has already ended.
    func closeAsLost() {
        guard let connection else { return }
        var reason = notices.lastFatal ?? PostgresError(.connectionLost, PostgresError.lastMessage(of: connection))
        reason.statement = nil
        if reason.message.isEmpty { reason.message = "the server closed the connection" }
        close(reason, isServerGone: true)
    }

    func flush() {
        guard let connection else { return }
        // A failure to write does not end the connection yet. libpq keeps it until the server's last messages have been
        // read.
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
