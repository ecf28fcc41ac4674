import Foundation

/// A TCP client of a loopback server. It sends exactly the given bytes, or nothing.
public final class RawClient: Sendable {
    private let descriptor: Int32

    /// Starts to connect, and does not wait until that is done.
    ///
    /// - Parameters:
    ///   - port: The server's port.
    ///   - source: The client's own address, one of those that begin with 127.
    public init(port: Int, from source: String = "127.0.0.1") throws {
        descriptor = socket(
            AF_INET,
            Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue),
            0
        )
        guard descriptor >= 0 else { throw POSIXError(.init(rawValue: errno) ?? .EMFILE) }
        func address(_ text: String, port: Int) -> sockaddr_in {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = in_port_t(port).bigEndian
            inet_pton(AF_INET, text, &address.sin_addr)
            return address
        }
        func with(_ address: sockaddr_in, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
            withUnsafePointer(to: address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }
        let bound = with(address(source, port: 0)) { bind(descriptor, $0, $1) }
        let connected = with(address("127.0.0.1", port: port)) { connect(descriptor, $0, $1) }
        guard bound == 0, connected == 0 || errno == EINPROGRESS else {
            let code = POSIXError(.init(rawValue: errno) ?? .ECONNREFUSED)
            close(descriptor)
            throw code
        }
    }

    deinit { close(descriptor) }

    /// Sends as many bytes as fit.
    ///
    /// - Returns: Whether all bytes were sent.
    @discardableResult
    public func send(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        return Foundation.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
    }

    /// Whether the server has closed the connection, and everything that it sent has been read.
    public var isClosed: Bool {
        var byte: UInt8 = 0
        let count = recv(descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
        return count == 0 || (count < 0 && ![EAGAIN, EWOULDBLOCK, ENOTCONN].contains(errno))
    }

    /// Returns all that the server sends until it closes the connection or the time is over.
    ///
    /// - Parameters:
    ///   - ending: The last bytes of a complete answer on a connection that stays open. Defaults to none.
    ///   - limit: The longest wait.
    public func answer(endingWith ending: String? = nil, within limit: Duration) async throws -> String {
        let end = ContinuousClock.now + limit
        let ending = ending.map { Array($0.utf8) }
        var bytes: [UInt8] = []
        while ContinuousClock.now < end {
            if let ending, bytes.suffix(ending.count) == ending[...] { break }
            var part = [UInt8](repeating: 0, count: 4096)
            let count = recv(descriptor, &part, part.count, Int32(MSG_DONTWAIT))
            if count > 0 {
                bytes += part[..<count]
            } else if isClosed {
                break
            } else {
                try await Task.sleep(for: .milliseconds(2))
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Requests a page.
    ///
    /// - Returns: The answer, with its head.
    public static func get(
        _ path: String,
        port: Int,
        from source: String = "127.0.0.1",
        within limit: Duration
    ) async throws -> String {
        let end = ContinuousClock.now + limit
        let client = try RawClient(port: port, from: source)
        let request = "GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        while !client.send(request), ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(1)) }
        return try await client.answer(within: end - .now)
    }

    /// Raises this process's limit of descriptors to the highest that is allowed.
    ///
    /// - Returns: The new limit.
    public static func raiseDescriptorLimit() -> Int {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        return Int(clamping: limit.rlim_cur)
    }
}
