import CLibpq
import Glibc

extension Wire {
    /// A connection that libpq is making.
    struct Opening {
        let options: ConnectionOptions
        let deadline: ContinuousClock.Instant
        let continuation: CheckedContinuation<Result<Opened, PostgresError>, Never>
        /// The readiness that libpq waits for.
        var events = Int16(POLLOUT)
    }

    /// What is known of a connection once it is there.
    struct Opened: Sendable {
        let backendPID: Int32
        let serverVersion: Int
    }

    /// Connects. On failure the wire has ended.
    func open(_ options: ConnectionOptions) async throws(PostgresError) -> Opened {
        let deadline = ContinuousClock.now + options.connectTimeout
        let cancelled = PostgresError(.cancelled, "connecting was cancelled")
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                phase = .opening(Opening(options: options, deadline: deadline, continuation: continuation))
                if Task.isCancelled { close(cancelled) } else { startOpening(options) }
            }
        } onCancel: {
            loop.post { wire in
                if case .opening = wire.phase { wire.close(cancelled) }
            }
        }
        return try result.get()
    }

    private func startOpening(_ options: ConnectionOptions) {
        do throws(PostgresError) {
            let keywords = try options.resolved()
            connection = Self.withCStrings(keywords.map(\.key)) { keys in
                Self.withCStrings(keywords.map(\.value)) { values in PQconnectStartParams(keys, values, 0) }
            }
        } catch {
            return close(error)
        }
        guard let connection else { return close(PostgresError(.connectionFailed, "libpq is out of memory")) }
        notices.attach(to: connection)
        if PQstatus(connection) == CONNECTION_BAD { failOpening(connection) }
    }

    func prepareToWaitForOpening() -> EventLoop.Interest? {
        guard case .opening(let opening) = phase, let connection else { return nil }
        if opening.deadline <= .now {
            failOpening(
                connection,
                because: "no answer from \(opening.options) within \(opening.options.connectTimeout)"
            )
            return nil
        }
        // The socket changes as libpq goes through addresses and hosts.
        return EventLoop.Interest(socket: PQsocket(connection), events: opening.events, deadline: opening.deadline)
    }

    func continueOpening() {
        guard case .opening(var opening) = phase, let connection else { return }
        switch PQconnectPoll(connection) {
        case PGRES_POLLING_READING:
            opening.events = Int16(POLLIN)
            phase = .opening(opening)
        case PGRES_POLLING_WRITING:
            opening.events = Int16(POLLOUT)
            phase = .opening(opening)
        case PGRES_POLLING_OK:
            guard PQsetnonblocking(connection, 1) == 0 else { return failOpening(connection) }
            phase = .open
            let opened = Opened(
                backendPID: PQbackendPID(connection),
                serverVersion: Int(PQserverVersion(connection))
            )
            opening.continuation.resume(returning: .success(opened))
        default:
            failOpening(connection)
        }
    }

    private func failOpening(_ connection: OpaquePointer, because: String? = nil) {
        guard case .opening(let opening) = phase else { return }
        let said = opening.options.withoutSecrets(PostgresError.lastMessage(of: connection))
        let message = [because, said].compactMap(\.self).filter { !$0.isEmpty }.joined(separator: "; ")
        close(PostgresError(.connectionFailed, message))
    }

    /// Calls `body` with the texts as a C array of C strings that ends in NULL.
    private static func withCStrings<Value>(
        _ texts: [String],
        _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Value
    ) -> Value {
        let copies = texts.map { UnsafePointer<CChar>(strdup($0)) }
        defer { for copy in copies { free(UnsafeMutablePointer(mutating: copy)) } }
        // The array is never empty, so that it has a base address: it ends in NULL.
        return (copies + [nil]).withUnsafeBufferPointer { body($0.baseAddress!) }
    }
}
