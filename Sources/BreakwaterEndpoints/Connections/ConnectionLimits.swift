import Foundation
package import HummingbirdCore
import NIOCore

/// How many connections a server keeps open, and how long each may take.
package struct ConnectionLimits: Sendable {
    /// The most connections in total. If there is one more, an open one is closed.
    package var most: Int
    /// The most connections of one client: an IPv4 address, or an IPv6 network of 64 bits.
    package var mostOfClient: Int
    /// The timeout from the connection, or from the end of the previous answer, to the end of the request's head.
    package var headTime = Duration.seconds(10)
    /// The timeout from the end of the request's head to the end of its body.
    package var bodyTime = Duration.seconds(20)
    /// The timeout from the end of the request until the client has received the answer.
    package var answerTime: Duration
    /// How long a connection is kept for the next request.
    package var idleTime = Duration.seconds(60)
    /// Addresses without a limit for each client. ``most`` applies to them as well.
    package var exempt: [AddressRange] = []

    /// - Parameters:
    ///   - most: The most connections in total.
    ///   - mostOfClient: The most connections of one client.
    ///   - answerTime: The timeout from the end of the request until the client has received the answer.
    package init(most: Int, mostOfClient: Int, answerTime: Duration) {
        self.most = most
        self.mostOfClient = mostOfClient
        self.answerTime = answerTime
    }

    /// A share of the descriptors that this process may have, so that clients never use up those that the worker needs.
    ///
    /// - Parameters:
    ///   - divisor: The number by which the number of descriptors is divided.
    ///   - most: The largest share.
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
                // This is twice the limiter's time, so that the limiter decides.
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
    /// How many connections may wait in the kernel until the server accepts them. If a flood fills this queue, the
    /// kernel drops new connections, and a client retries after a second or more.
    package static let backlog = 1024

    /// Stops accepting while far more connections are open than allowed, until those that must make room are closed.
    package var backstop: some AvailableConnectionsDelegate { MaximumAvailableConnections(most + max(8, most / 4)) }
}
