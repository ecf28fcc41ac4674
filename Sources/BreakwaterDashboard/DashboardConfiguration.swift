import Foundation
public import Libpq

/// Where the dashboard listens, who may see it, and what it reads.
public struct DashboardConfiguration: Sendable {
    /// Somebody who logs in with a password.
    public struct User: Sendable, Equatable {
        /// 1 to 100 bytes; each once. It stands in the audit log.
        public var name: String
        /// Their password.
        public var password: PasswordHash
        /// What they may do.
        public var role: DashboardRole

        /// - Parameters:
        ///   - name: 1 to 100 bytes; each once. It stands in the audit log.
        ///   - password: Their password.
        ///   - role: What they may do. Defaults to looking.
        public init(name: String, password: PasswordHash, role: DashboardRole = .readOnly) {
            self.name = name
            self.password = password
            self.role = role
        }
    }

    /// A reverse proxy in front, which knows who somebody is and says so in a header.
    public struct Proxy: Sendable, Equatable {
        /// The header that names the user, in any case, such as `X-Forwarded-User`. The proxy must overwrite what others
        /// send in it.
        public var header: String
        /// The addresses from which the header is believed. From all others it counts for nothing.
        public var peers: [String]
        /// Those who may act; everybody else that the proxy lets through may look.
        public var operators: [String]

        /// - Parameters:
        ///   - header: The header that names the user. The proxy must overwrite what others send in it.
        ///   - peers: The addresses from which it is believed.
        ///   - operators: Those who may act. Defaults to nobody.
        public init(header: String, peers: [String], operators: [String] = []) {
            self.header = header
            self.peers = peers
            self.operators = operators
        }
    }

    /// The address to listen on. Defaults to loopback: nothing from outside gets through.
    public var host = "127.0.0.1"
    /// The port; 0 for any that is free. Defaults to 8090.
    public var port = 8090
    /// Where the jobs are.
    public var database: ConnectionOptions
    /// Those who log in.
    public var users: [User]
    /// The reverse proxy that is believed; nil for none. Where there is one, nobody else gets in without a password.
    public var proxy: Proxy?
    /// How long a login lasts at most. Defaults to 12 hours.
    public var sessionLifetime: Duration = .seconds(12 * 3600)
    /// How long a login lasts without anybody doing anything. Defaults to 2 hours.
    public var sessionIdleTime: Duration = .seconds(2 * 3600)
    /// Whether cookies are sent over HTTPS only: yes where a proxy with TLS stands in front. Defaults to no.
    public var securesCookies = false
    /// How long a query of a page may take. Defaults to 5 seconds.
    public var queryTimeout: Duration = .seconds(5)

    /// - Parameters:
    ///   - database: Where the jobs are.
    ///   - users: Those who log in. Defaults to nobody.
    ///   - proxy: The reverse proxy that is believed. Defaults to none.
    public init(database: ConnectionOptions, users: [User] = [], proxy: Proxy? = nil) {
        self.database = database
        self.users = users
        self.proxy = proxy
    }

    /// Refuses what cannot work, or would let anybody in.
    ///
    /// - Throws: ``DashboardError`` with everything that is wrong.
    public func validate() throws(DashboardError) {
        var faults: [String] = []
        if users.isEmpty, proxy == nil {
            faults.append(
                "nobody could get in: name users with their passwords, or a reverse proxy that says who somebody is"
            )
        }
        if Set(users.map(\.name)).count != users.count { faults.append("a user is named twice") }
        for user in users where !(1...100).contains(user.name.utf8.count) {
            faults.append("the user's name '\(user.name)' must have 1 to 100 bytes")
        }
        if let proxy {
            let isToken = proxy.header.wholeMatch(of: /[A-Za-z0-9!#$%&'*+.^_`|~-]+/) != nil
            if !isToken { faults.append("proxy.header '\(proxy.header)' is not a header's name") }
            if ["host", "cookie", "content-length", "content-type", "origin"].contains(proxy.header.lowercased()) {
                faults.append("proxy.header '\(proxy.header)' means something else")
            }
            if proxy.peers.isEmpty { faults.append("proxy.peers is empty: the header would be believed from nobody") }
            for peer in proxy.peers where PeerAddress(peer) == nil {
                faults.append("proxy.peers: '\(peer)' is not an address, such as 127.0.0.1 or ::1")
            }
        }
        if !(0...65535).contains(port) { faults.append("the port \(port) is not from 0 to 65535") }
        if sessionLifetime <= .zero || sessionIdleTime <= .zero || queryTimeout <= .zero {
            faults.append("a time is not positive")
        }
        if !faults.isEmpty { throw DashboardError(.invalidConfiguration, faults.joined(separator: "\n")) }
    }
}

/// Why the dashboard does not run.
public struct DashboardError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kinds of failure that a caller can tell apart.
    public enum Code: Sendable, Equatable {
        /// A setting cannot work.
        case invalidConfiguration
        /// The address cannot be listened on.
        case cannotListen
    }

    /// The kind of failure.
    public var code: Code
    /// What was wrong, for people.
    public var message: String

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The message.
    public var description: String { message }
}

/// An IP address, so that `::ffff:127.0.0.1` and `127.0.0.1` are the same.
struct PeerAddress: Hashable {
    private var bytes: [UInt8]

    init?(_ text: String) {
        var four = in_addr()
        var six = in6_addr()
        if inet_pton(AF_INET, text, &four) == 1 {
            bytes = withUnsafeBytes(of: &four) { Array($0) }
        } else if inet_pton(AF_INET6, text, &six) == 1 {
            bytes = withUnsafeBytes(of: &six) { Array($0) }
            if bytes.prefix(12) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF] { bytes.removeFirst(12) }
        } else {
            return nil
        }
    }
}
