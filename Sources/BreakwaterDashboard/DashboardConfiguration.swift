import BreakwaterEndpoints
public import Libpq

/// The dashboard's settings: its address, its users and its database.
public struct DashboardConfiguration: Sendable {
    /// A user who logs in with a password.
    public struct User: Sendable, Equatable {
        /// The user's name, of 1 to 100 bytes. It must be unique, and is written to the audit log.
        public var name: String
        /// The user's hashed password.
        public var password: PasswordHash
        /// The user's role.
        public var role: DashboardRole

        /// - Parameters:
        ///   - name: The user's name, of 1 to 100 bytes. It must be unique, and is written to the audit log.
        ///   - password: The user's hashed password.
        ///   - role: The user's role. Defaults to read-only.
        public init(name: String, password: PasswordHash, role: DashboardRole = .readOnly) {
            self.name = name
            self.password = password
            self.role = role
        }
    }

    /// A reverse proxy that authenticates users and names them in a header.
    public struct Proxy: Sendable, Equatable {
        /// The header that names the user, such as `X-Forwarded-User`; its case does not matter. The proxy must
        /// overwrite this header in the requests of clients.
        public var header: String
        /// The addresses and networks from which the header is trusted. From all others it is ignored.
        public var peers: [String]
        /// A secret of 16 to 1024 bytes that only the proxy knows and that it sends with each request. Without the
        /// secret the header is ignored, because other programs can connect from the proxy's address too.
        public var secret: String
        /// The header that the secret is sent in; its case does not matter. The proxy must overwrite this header in the
        /// requests of clients. Defaults to `X-Breakwater-Secret`.
        public var secretHeader: String
        /// The users who may make changes. All other users of the proxy are read-only.
        public var operators: [String]

        /// The default of ``secretHeader``.
        public static let defaultSecretHeader = "X-Breakwater-Secret"

        /// - Parameters:
        ///   - header: The header that names the user. The proxy must overwrite this header in the requests of clients.
        ///   - peers: The addresses and networks from which the header is trusted.
        ///   - secret: A secret of 16 to 1024 bytes that only the proxy knows and that it sends with each request.
        ///   - secretHeader: The header that the secret is sent in. Defaults to `X-Breakwater-Secret`.
        ///   - operators: The users who may make changes. Defaults to none.
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

    /// The address to listen on. Defaults to loopback, which other machines cannot reach.
    public var host = "127.0.0.1"
    /// The port; 0 for any free one. Defaults to 8090.
    public var port = 8090
    /// Names and addresses, without ports, under which browsers may request the dashboard, in addition to `localhost`,
    /// the loopback addresses and `host`. The usual one is the name of a reverse proxy. Requests with another `Host`
    /// are refused, to prevent DNS rebinding. Defaults to none.
    public var hosts: [String] = []
    /// The addresses and networks of reverse proxies whose `X-Forwarded-For` is trusted. Wrong passwords are counted by
    /// the client address in it. Defaults to none.
    public var trustedProxies: [String] = []
    /// The database with the jobs.
    public var database: ConnectionOptions
    /// The users who log in with a password.
    public var users: [User]
    /// The trusted reverse proxy; nil for none. Users who do not come through the proxy still need a password.
    public var proxy: Proxy?
    /// The longest time that a login lasts. Defaults to 12 hours.
    public var sessionLifetime: Duration = .seconds(12 * 3600)
    /// How long a login lasts without activity of its user. Defaults to 2 hours.
    public var sessionIdleTime: Duration = .seconds(2 * 3600)
    /// Whether cookies are sent over HTTPS only. Set this if the dashboard is behind a proxy with TLS. Defaults to
    /// false.
    public var securesCookies = false
    /// The timeout of a page's query. Defaults to 5 seconds.
    public var queryTimeout: Duration = .seconds(5)

    /// - Parameters:
    ///   - database: The database with the jobs.
    ///   - users: The users who log in with a password. Defaults to none.
    ///   - proxy: The trusted reverse proxy. Defaults to none.
    public init(database: ConnectionOptions, users: [User] = [], proxy: Proxy? = nil) {
        self.database = database
        self.users = users
        self.proxy = proxy
    }

    /// Whether a text is a valid entry of ``hosts``.
    package static func isHostName(_ text: String) -> Bool { AllowedHosts.isName(text) }

    /// Refuses invalid settings, and settings that would let in any visitor.
    ///
    /// - Throws: ``DashboardError`` with all problems.
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
    /// A description without the secret.
    public var description: String { "Proxy(header: \(header), peers: \(peers))" }
    /// A mirror without children, because the fields hold the secret.
    public var customMirror: Mirror { Mirror(self, children: []) }

    /// The problems of these settings.
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

/// The error that prevents the dashboard from running.
public struct DashboardError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kinds of failure that a caller can tell apart.
    public enum Code: Sendable, Equatable {
        /// A setting is invalid.
        case invalidConfiguration
        /// The address cannot be listened on.
        case cannotListen
    }

    /// The kind of failure.
    public var code: Code
    /// The problem, for people.
    public var message: String

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The message.
    public var description: String { message }
}
