import Foundation

/// The datagram socket on which systemd receives messages from its services (see sd_notify(3)).
struct NotifySocket: Sendable {
    /// A path, or a name in Linux's abstract space after an `@`.
    let name: String

    /// - Parameter environment: The environment, whose `NOTIFY_SOCKET` names the socket. The result is nil if the
    ///   variable is unset or invalid.
    init?(environment: [String: String]) {
        guard let name = environment["NOTIFY_SOCKET"], name.hasPrefix("/") || name.hasPrefix("@"),
            (2...Self.longestName).contains(name.utf8.count)
        else { return nil }
        self.name = name
    }

    /// The longest name that fits into `sockaddr_un` with a terminating NUL.
    private static let longestName = MemoryLayout.size(ofValue: sockaddr_un().sun_path) - 1

    /// Sends assignments such as `READY=1`, one a line. If sending fails, the worker continues. The call does not
    /// block, because a full socket queue would keep the worker from ending.
    ///
    /// - Returns: Whether it was sent.
    @discardableResult
    func send(_ assignments: [String]) -> Bool {
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { path in
            path.copyBytes(from: name.utf8)
            if name.hasPrefix("@") { path[0] = 0 }
        }
        // An abstract name ends where the address ends. A terminating NUL would be a part of the name.
        let length = MemoryLayout<sockaddr_un>.offset(of: \.sun_path).map { $0 + name.utf8.count } ?? 0
        let flags = Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)
        let message = Array(assignments.joined(separator: "\n").utf8)
        let sent = withUnsafePointer(to: address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                sendto(descriptor, message, message.count, flags, address, socklen_t(length))
            }
        }
        return sent == message.count
    }
}
