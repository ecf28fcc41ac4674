import CLibpq
import Glibc

extension Wire {
    /// The state of a connection that libpq is establishing.
    struct Opening {
        let options: ConnectionOptions
        let deadline: ContinuousClock.Instant
        let continuation: CheckedContinuation<Result<Opened, PostgresError>, Never>
        /// The keywords for libpq, and the servers that are still to be tried.
        var keywords: [String: String] = [:]
        var servers = HostList([:], defaults: [:])
        /// The server that libpq is trying, and its deadline if there are others to try.
        var server = ""
        var serverDeadline: ContinuousClock.Instant
        /// The reasons why servers were given up.
        var findings: [String] = []
        /// The socket events that libpq waits for.
        var events = Int16(POLLOUT)
        /// Whether the login is complete, and the server was asked for its process id.
        var isAsking = false
        /// The process id that was returned.
        var answeringPID: Int32?
    }

    /// The facts about an established connection.
    struct Opened: Sendable {
        let backendPID: Int32
        let serverVersion: Int
        let isPooled: Bool
    }

    /// Connects. After a failure the wire is closed.
    func open(_ options: ConnectionOptions) async throws(PostgresError) -> Opened {
        let deadline = ContinuousClock.now + min(options.connectTimeout, Self.maximumTimeout)
        let cancelled = PostgresError(.cancelled, "connecting was cancelled")
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                phase = .opening(
                    Opening(
                        options: options,
                        deadline: deadline,
                        continuation: continuation,
                        serverDeadline: deadline
                    )
                )
                if Task.isCancelled { close(cancelled) } else { startOpening() }
            }
        } onCancel: {
            loop.post { wire in
                if case .opening = wire.phase { wire.close(cancelled) }
            }
        }
        return try result.get()
    }

    private func startOpening() {
        guard case .opening(var opening) = phase else { return }
        do throws(PostgresError) {
            opening.keywords = try opening.options.resolved()
        } catch {
            return close(error)
        }
        opening.servers = HostList(opening.keywords, defaults: ConnectionOptions.defaults())
            .expanded(by: opening.options.resolve)
        startAttempt(opening)
    }

    /// Makes libpq start to connect to the servers of `opening`.
    private func startAttempt(_ next: Opening) {
        var opening = next
        let keywords = opening.servers.applied(to: opening.keywords)
        connection = Self.withCStrings(keywords.map(\.key)) { keys in
            Self.withCStrings(keywords.map(\.value)) { values in PQconnectStartParams(keys, values, 0) }
        }
        opening.events = Int16(POLLOUT)
        opening.isAsking = false
        opening.server = ""
        phase = .opening(opening)
        guard let connection else { return close(PostgresError(.connectionFailed, "libpq is out of memory")) }
        notices.attach(to: connection)
        // Without this, the text of a refusal does not contain its SQLSTATE.
        PQsetErrorVerbosity(connection, PQERRORS_VERBOSE)
        if PQstatus(connection) == CONNECTION_BAD { return failOpening() }
        startServerDeadline()
    }

    func prepareToWaitForOpening() -> EventLoop.Interest? {
        if case .opening(let opening) = phase, min(opening.deadline, opening.serverDeadline) <= .now {
            giveUpServer()
        }
        guard case .opening(let opening) = phase, let connection else { return nil }
        // The socket may change when libpq tries the next address or host.
        return EventLoop.Interest(
            socket: PQsocket(connection),
            events: opening.events,
            deadline: min(opening.deadline, opening.serverDeadline)
        )
    }

    func continueOpening() {
        guard case .opening(var opening) = phase, let connection else { return }
        if opening.isAsking { return readAnsweringPID() }
        let progress = PQconnectPoll(connection)
        switch progress {
        case PGRES_POLLING_READING, PGRES_POLLING_WRITING:
            opening.events = Int16(progress == PGRES_POLLING_READING ? POLLIN : POLLOUT)
            phase = .opening(opening)
            startServerDeadline()
        case PGRES_POLLING_OK:
            // A pooler's startup message has another process id than the backend that answers. The function's name is
            // qualified, because the role's search path may find another user's function first.
            guard PQsetnonblocking(connection, 1) == 0,
                PQsendQuery(connection, "select pg_catalog.pg_backend_pid()") == 1
            else { return failOpening() }
            opening.isAsking = true
            opening.events = Int16(POLLIN) | (PQflush(connection) == 1 ? Int16(POLLOUT) : 0)
            phase = .opening(opening)
        default:
            failOpening()
        }
    }

    private func readAnsweringPID() {
        guard case .opening(var opening) = phase, let connection else { return }
        guard PQconsumeInput(connection) == 1 else { return failOpening() }
        opening.events = Int16(POLLIN) | (PQflush(connection) == 1 ? Int16(POLLOUT) : 0)
        while PQisBusy(connection) == 0 {
            guard let result = PQgetResult(connection) else { return opened(opening, on: connection) }
            defer { PQclear(result) }
            guard PQresultStatus(result) == PGRES_TUPLES_OK, PQntuples(result) == 1 else { return failOpening() }
            opening.answeringPID = Int32(Self.text(PQgetvalue(result, 0, 0)))
        }
        phase = .opening(opening)
    }

    private func opened(_ opening: Opening, on connection: OpaquePointer) {
        let opened = Opened(
            backendPID: PQbackendPID(connection),
            serverVersion: Int(PQserverVersion(connection)),
            isPooled: opening.answeringPID != PQbackendPID(connection)
        )
        isPooled = opened.isPooled
        if isPooled { pipeline.maximumInFlight = 1 }
        PQsetErrorVerbosity(connection, PQERRORS_DEFAULT)
        phase = .open
        opening.continuation.resume(returning: .success(opened))
    }

    /// Gives each server that libpq tries its share of the time. libpq itself would wait forever for one that never
    /// answers, because its `connect_timeout` applies only to blocking calls.
    private func startServerDeadline() {
        guard case .opening(var opening) = phase, let connection else { return }
        let (host, address) = (Self.text(PQhost(connection)), Self.text(PQhostaddr(connection)))
        let place = address.isEmpty || address == host ? host : "\(host) (\(address))"
        let server = "\(place) port \(Self.text(PQport(connection)))"
        guard server != opening.server else { return }
        opening.server = server
        let left = opening.deadline - .now
        opening.serverDeadline = opening.servers.count > 1 ? .now + left / opening.servers.count : opening.deadline
        phase = .opening(opening)
    }

    /// Continues with the other servers, or fails when there are none or no time is left.
    private func giveUpServer() {
        guard case .opening(var opening) = phase, let connection else { return }
        opening.findings.append("no answer from \(opening.server) in time")
        phase = .opening(opening)
        let isOver = opening.deadline <= .now
        let (host, address) = (Self.text(PQhost(connection)), Self.text(PQhostaddr(connection)))
        guard !isOver, opening.servers.remove(host: host, address: address, port: Self.text(PQport(connection))) else {
            return failOpening(because: "connecting took longer than \(opening.options.connectTimeout)")
        }
        PQfinish(connection)
        self.connection = nil
        startAttempt(opening)
    }

    /// Fails, unless the server ended the connection without a word and others come after it in the list. libpq itself
    /// would stop there, and a proxy whose server is down accepts connections and closes them.
    private func failOpening(because: String? = nil) {
        guard case .opening(var opening) = phase, let connection else { return }
        let refusals = ConnectionRefusals(String(cString: PQerrorMessage(connection)))
        if because == nil, !refusals.areAnswers, !opening.server.isEmpty, opening.deadline > .now {
            let (host, address) = (Self.text(PQhost(connection)), Self.text(PQhostaddr(connection)))
            if opening.servers.removeAll(through: host, address: address, port: Self.text(PQport(connection))) {
                opening.findings.append(refusals.message)
                PQfinish(connection)
                self.connection = nil
                return startAttempt(opening)
            }
        }
        let message = ([because] + opening.findings + [refusals.message]).compactMap(\.self).filter { !$0.isEmpty }
        var error = PostgresError(.connectionFailed, message.joined(separator: "; "))
        error.isServerAbsent = because == nil && opening.findings.isEmpty && refusals.areAbsences
        close(error)
    }

    private static func text(_ text: UnsafePointer<CChar>?) -> String {
        text.map { String(cString: $0) } ?? ""
    }

    /// Calls `body` with the texts as a NULL-terminated C array of C strings.
    private static func withCStrings<Value>(
        _ texts: [String],
        _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Value
    ) -> Value {
        let copies = texts.map { UnsafePointer<CChar>(strdup($0)) }
        defer { for copy in copies { free(UnsafeMutablePointer(mutating: copy)) } }
        // The array ends in NULL, so it is never empty and always has an address.
        return (copies + [nil]).withUnsafeBufferPointer { body($0.baseAddress!) }
    }
}
