import Foundation
package import HummingbirdCore
import NIOCore

/// How many connections a server keeps open, and how long each may take.
package struct ConnectionLimits: Sendable {
    /// Connections in all. One more makes an open one give way.
    package var most: Int
    /// Connections of one client: an IPv4 address, or an IPv6 network of 64 bits.
    package var mostOfClient: Int
    /// From the connection, or from the end of the answer before, to the end of the request's head.
    package var headTime = Duration.seconds(10)
    /// From the end of the request's head to the end of its body.
    package var bodyTime = Duration.seconds(20)
    /// From the end of the request to the moment when the client has taken the answer.
    package var answerTime: Duration
    /// How long a connection is kept for the next request.
    package var idleTime = Duration.seconds(60)
    /// Addresses without a limit of their own; `most` holds for them as well.
    package var exempt: [AddressRange] = []

    /// - Parameters:
    ///   - most: Connections in all.
    ///   - mostOfClient: Connections of one client.
    ///   - answerTime: From the end of the request to the moment when the client has taken the answer.
    package init(most: Int, mostOfClient: Int, answerTime: Duration) {
        self.most = most
        self.mostOfClient = mostOfClient
        self.answerTime = answerTime
    }

    /// A share of the descriptors that this process may have, so that clients never take those that the work needs.
    ///
    /// - Parameters:
    ///   - divisor: The share is the number of descriptors, divided by this.
    ///   - most: The share is no larger.
    package static func share(oneOf divisor: Int, atMost most: Int) -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 16 }
        return share(oneOf: divisor, atMost: most, descriptors: Int(clamping: limit.rlim_cur))
    }

    static func share(oneOf divisor: Int, atMost most: Int, descriptors: Int) -> Int {
        min(most, max(8, descriptors / divisor))
    }
}

extension HTTPServerBuilder {
    /// A server for HTTP/1.1 whose connections are limited.
    package static func http1(limits: ConnectionLimits) -> HTTPServerBuilder {
        let limiter = ConnectionLimiter(limits)
        return .http1(
            configuration: .init(
                additionalChannelHandlers: [ConnectionLimitHandler(limiter)],
                // Twice what the limiter allows: the limiter is the one that decides.
                idleTimeout: .init(limits.idleTime * 2),
                httpDecoderConfiguration: .init(
                    maxHeaderFieldSize: 16 * 1024,
                    maxHeaderListSize: 32 * 1024,
                    maxHeaderFieldCount: 100
                )
            )
        )
    }
}

extension ConnectionLimits {
    /// How many connections wait in the kernel until the server accepts them. When a flood fills that queue, the kernel
    /// drops new ones, and a client tries again after a second and more.
    package static let backlog = 1024

    /// Stops accepting while far more connections are open than there may be, which is until those that gave way are
    /// closed.
    package var backstop: some AvailableConnectionsDelegate { MaximumAvailableConnections(most + max(8, most / 4)) }
}
