import Foundation
import Glibc
import Synchronization

/// A server on a loopback port that answers as a test says, with one thread for each connection.
final class TestServer: Sendable {
    /// One request as it arrived.
    struct Request: Sendable {
        var line: String
        var headers: [String: String]
        var body: [UInt8]
        /// The number of the connection over which the request came, counted from 1.
        var connection: Int
    }

    /// The server's reaction to a request.
    enum Reply: Sendable {
        case answer(Int, headers: [String: String] = [:], body: String = "")
        /// Raw bytes. The connection is closed after them.
        case raw(String)
        case bytes([UInt8])
        /// The head of an answer, then a byte of its body every now and then for as long as a client listens.
        case drip
        /// An answer with a body of this many bytes, sent for as long as a client listens.
        case huge(Int)
        /// No answer until the client hangs up.
        case never
        /// A reset of the connection.
        case reset
    }

    private struct State {
        var requests: [Request] = []
        var connections = 0
        var open: Set<Int32> = []
        var isStopped = false
        var listens = true
    }

    let port: UInt16
    private let listener: Int32
    private let state = Mutex(State())
    private let handler: @Sendable (Request) -> Reply

    var requests: [Request] { state.withLock { $0.requests } }
    var connections: Int { state.withLock { $0.connections } }
    var openConnections: Int { state.withLock { $0.open.count } }
    var url: String { "http://127.0.0.1:\(port)" }

    init(_ handler: @escaping @Sendable (Request) -> Reply) throws {
        self.handler = handler
        (listener, port) = try Self.listen()
        let thread = Thread { self.accept() }
        thread.start()
    }

    /// Listens on a free port.
    static func listen(backlog: Int32 = 512) throws -> (listener: Int32, port: UInt16) {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let port = withUnsafeMutableBytes(of: &address) { bytes -> UInt16? in
            // The function takes the general form of a socket address.
            let general = bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self)
            guard bind(listener, general, length) == 0, Glibc.listen(listener, backlog) == 0,
                getsockname(listener, general, &length) == 0
            else { return nil }
            return UInt16(bigEndian: bytes.loadUnaligned(as: sockaddr_in.self).sin_port)
        }
        guard let port else { throw POSIXError(.init(rawValue: errno) ?? .EIO) }
        return (listener, port)
    }

    func stop() {
        state.withLock { state in
            state.isStopped = true
            for connection in state.open { shutdown(connection, Int32(SHUT_RDWR)) }
            // After the listener is closed, its descriptor may belong to another file, so it is shut down only before.
            if state.listens { shutdown(listener, Int32(SHUT_RDWR)) }
        }
    }

    private func accept() {
        while true {
            let connection = Glibc.accept(listener, nil, nil)
            guard connection >= 0 else { break }
            // A program that another test starts must not hold the connection open.
            _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
            let number = state.withLock { state -> Int? in
                guard !state.isStopped else { return nil }
                state.connections += 1
                state.open.insert(connection)
                return state.connections
            }
            guard let number else {
                close(connection)
                break
            }
            Thread { self.serve(connection, number: number) }.start()
        }
        state.withLock { state in
            state.listens = false
            close(listener)
        }
    }

    private func serve(_ connection: Int32, number: Int) {
        var buffer: [UInt8] = []
        while let request = read(from: connection, number: number, buffer: &buffer) {
            state.withLock { $0.requests.append(request) }
            guard reply(handler(request), on: connection) else { break }
        }
        state.withLock { state in
            state.open.remove(connection)
            close(connection)
        }
    }

    private func read(from connection: Int32, number: Int, buffer: inout [UInt8]) -> Request? {
        let separator = Array("\r\n\r\n".utf8)
        var head: Range<Int>?
        while head == nil {
            head = buffer.firstRange(of: separator)
            if head == nil, !receive(from: connection, into: &buffer) { return nil }
            // These bytes begin a TLS handshake, which this server does not support.
            if buffer.first == 0x16 {
                _ = send("HTTP/1.1 400 X\r\n\r\n", on: connection)
                return nil
            }
        }
        guard let head else { return nil }
        let lines = String(decoding: buffer[..<head.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            headers[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces)
        }
        let length = headers["content-length"].flatMap { Int($0) } ?? 0
        while buffer.count < head.upperBound + length {
            if !receive(from: connection, into: &buffer) { return nil }
        }
        let end = head.upperBound + length
        let body = Array(buffer[head.upperBound..<end])
        buffer.removeFirst(end)
        return Request(line: lines[0], headers: headers, body: body, connection: number)
    }

    private func receive(from connection: Int32, into buffer: inout [UInt8]) -> Bool {
        var chunk = [UInt8](repeating: 0, count: 65536)
        let count = recv(connection, &chunk, chunk.count, 0)
        guard count > 0 else { return false }
        buffer += chunk[..<count]
        return true
    }

    /// Sends a reply, and returns whether the connection serves further requests.
    private func reply(_ reply: Reply, on connection: Int32) -> Bool {
        switch reply {
        case .answer(let status, let headers, let body):
            let lines = headers.map { "\($0): \($1)\r\n" }.joined()
            let head = "HTTP/1.1 \(status) X\r\nContent-Length: \(body.utf8.count)\r\n\(lines)\r\n"
            return send(head + body, on: connection)
        case .raw(let text):
            _ = send(text, on: connection)
        case .bytes(let bytes):
            _ = send(bytes, on: connection)
        case .drip:
            var isHeard = send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", on: connection)
            while isHeard {
                poll(nil, 0, 10)
                isHeard = send("x", on: connection)
            }
        case .huge(let size):
            var isHeard = send("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n", on: connection)
            let chunk = String(repeating: "x", count: 65536)
            for _ in 0..<(size / chunk.utf8.count) where isHeard { isHeard = send(chunk, on: connection) }
        case .never:
            var ignored: [UInt8] = []
            _ = receive(from: connection, into: &ignored)
        case .reset:
            var option = linger(l_onoff: 1, l_linger: 0)
            setsockopt(connection, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        }
        return false
    }

    private func send(_ text: String, on connection: Int32) -> Bool { send(Array(text.utf8), on: connection) }

    private func send(_ bytes: [UInt8], on connection: Int32) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { bytes in
                Glibc.send(connection, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }
}

/// Starts a server that answers with the handler, and runs the body with it.
func withServer<Result>(
    _ handler: @escaping @Sendable (TestServer.Request) -> TestServer.Reply,
    _ body: (TestServer) async throws -> Result
) async throws -> Result {
    let server = try TestServer(handler)
    defer { server.stop() }
    return try await body(server)
}
