import BreakwaterEndpoints
public import Libpq

/// Where the dashboard listens, who may see it, and what it reads.
public struct DashboardConfiguration: Sendable {
    /// A user who logs in with a password.
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

    /// A reverse proxy in front, which knows who a user is and says so in a header.
    public struct Proxy: Sendable, Equatable {
        /// The header that names the user, in any case, such as `X-Forwarded-User`. The proxy must overwrite what
        /// others send in it.
        public var header: String
        /// The addresses and networks from which the header is believed. From all others it counts for nothing.
        public var peers: [String]
        /// What the proxy sends with each request, and only it knows: 16 to 1024 bytes. Without it the header counts
        /// for nothing, because other programs can connect from the proxy's address too.
        public var secret: String
        /// The header that the secret is sent in, in any case. The proxy must overwrite what others send in it.
        /// Defaults to `X-Breakwater-Secret`.
        public var secretHeader: String
        /// The users who may act; all others that the proxy lets through may look.
        public var operators: [String]

        /// The header that the secret is sent in unless another is chosen.
        public static let defaultSecretHeader = "X-Breakwater-Secret"

        /// - Parameters:
        ///   - header: The header that names the user. The proxy must overwrite what others send in it.
        ///   - peers: The addresses and networks from which it is believed.
        ///   - secret: What the proxy sends with each request, and only it knows: 16 to 1024 bytes.
        ///   - secretHeader: The header that the secret is sent in. Defaults to `X-Breakwater-Secret`.
        ///   - operators: The users who may act. Defaults to none.
        public init(
            header: String,
            peers: [String],
            secret: String,
            secretHeader: String = Self.defaultSecretHeader,
            operators: [String] = []
        ) {
            self.header = header
            self.peers = peers
            self.secret = secret
            self.secretHeader = secretHeader
            self.operators = operators
        }
    }

    /// The address to listen on. Defaults to loopback: nothing from outside gets through.
    public var host = "127.0.0.1"
    /// The port; 0 for any that is free. Defaults to 8090.
    public var port = 8090
    /// Names and addresses under which browsers may ask for the dashboard, without ports, beside `localhost`, the
    /// loopback addresses and `host`: that of a reverse proxy, above all. Requests under other names are refused,
    /// because a page elsewhere could otherwise have its own name point here. Defaults to none.
    public var hosts: [String] = []
    /// The addresses and networks of reverse proxies whose `X-Forwarded-For` is believed. Wrong passwords are counted
    /// by the address that it names. Defaults to none.
    public var trustedProxies: [String] = []
    /// Where the jobs are.
    public var database: ConnectionOptions
    /// The users who log in.
    public var users: [User]
    /// The reverse proxy that is believed; nil for none. With a proxy, every other user still needs a password.
    public var proxy: Proxy?
    /// How long a login lasts at most. Defaults to 12 hours.
    public var sessionLifetime: Duration = .seconds(12 * 3600)
    /// How long a login lasts while its user does nothing. Defaults to 2 hours.
    public var sessionIdleTime: Duration = .seconds(2 * 3600)
    /// Whether cookies are sent over HTTPS only: yes where a proxy with TLS stands in front. Defaults to no.
    public var securesCookies = false
    /// How long a query of a page may take. Defaults to 5 seconds.
    public var queryTimeout: Duration = .seconds(5)

    /// - Parameters:
    ///   - database: Where the jobs are.
    ///   - users: The users who log in. Defaults to none.
    ///   - proxy: The reverse proxy that is believed. Defaults to none.
    public init(database: ConnectionOptions, users: [User] = [], proxy: Proxy? = nil) {
        self.database = database
        self.users = users
        self.proxy = proxy
    }

    /// Whether a text may stand in ``hosts``.
    package static func isHostName(_ text: String) -> Bool { AllowedHosts.isName(text) }

    /// Refuses settings that cannot work, or that would let in any visitor.
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
        for user in users where !user.password.isStrong {
            faults.append("the user '\(user.name)': \(PasswordHash.weakness)")
        }
        for host in hosts where !AllowedHosts.isName(host) {
            faults.append("hosts: '\(host)' is not a host's name or address, without a port")
        }
        for proxy in trustedProxies where AddressRange(proxy) == nil {
            faults.append("trusted_proxies: '\(proxy)' is not an address or a network, such as 10.0.0.1 or 10.0.0.0/8")
        }
        faults += proxy?.faults ?? []
        if !(0...65535).contains(port) { faults.append("the port \(port) is not from 0 to 65535") }
        if sessionLifetime <= .zero || sessionIdleTime <= .zero || queryTimeout <= .zero {
            faults.append("a time is not positive")
        }
        if !faults.isEmpty { throw DashboardError(.invalidConfiguration, faults.joined(separator: "\n")) }
    }
}

extension DashboardConfiguration.Proxy: CustomStringConvertible, CustomReflectable {
    /// Without the secret.
    public var description: String { "Proxy(header: \(header), peers: \(peers))" }
    /// Nothing.
    public var customMirror: Mirror { Mirror(self, children: []) }

    /// What is wrong with it.
    fileprivate var faults: [String] {
        var faults: [String] = []
        for (key, header) in [("header", header), ("secret_header", secretHeader)] {
            if header.wholeMatch(of: /[A-Za-z0-9!#$%&'*+.^_`|~-]+/) == nil {
                faults.append("proxy.\(key) '\(header)' is not a header's name")
            }
            if ["host", "cookie", "content-length", "content-type", "origin"].contains(header.lowercased()) {
                faults.append("proxy.\(key) '\(header)' means something else")
            }
        }
        if header.lowercased() == secretHeader.lowercased() {
            faults.append("proxy.secret_header must be another header than proxy.header")
        }
        if !(16...1024).contains(secret.utf8.count) {
            faults.append(
                """
                proxy.secret is missing or not of 16 to 1024 bytes: any program that can connect from the proxy's address \
                could name itself a user; make one with `openssl rand -hex 32` and let the proxy send it in \
                \(secretHeader)
                """
            )
        }
        if peers.isEmpty { faults.append("proxy.peers is empty: the header would be believed from nobody") }
        for peer in peers where AddressRange(peer) == nil {
            faults.append("proxy.peers: '\(peer)' is not an address or a network, such as 127.0.0.1, ::1 or 10.0.0.0/8")
        }
        return faults
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
