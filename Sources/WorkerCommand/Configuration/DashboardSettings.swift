import BreakwaterDashboard
import BreakwaterEndpoints
import Libpq

/// The address that the dashboard listens on.
struct DashboardAddress: Equatable, CustomStringConvertible {
    var host: String
    var port: Int

    /// `127.0.0.1:8090`, `localhost:8090` or `[::1]:8090`.
    init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]),
            (0...65535).contains(port)
        else { return nil }
        let name = text[..<colon]
        let isBracketed = name.hasPrefix("[") && name.hasSuffix("]")
        host = String(isBracketed ? name.dropFirst().dropLast() : name)
        guard !host.isEmpty, isBracketed || !host.contains(":"), !host.contains(where: \.isWhitespace) else {
            return nil
        }
        self.port = port
    }

    var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

extension ValueRule where Value == DashboardAddress {
    /// The address to listen on.
    static var dashboardAddress: Self {
        Self(
            allowed: "an address with a port, such as 127.0.0.1:8090 or [::1]:8090",
            parse: { DashboardAddress($0) },
            text: \.description
        )
    }
}

extension ValueRule where Value == PasswordHash {
    /// A hashed password. It is never shown.
    static var passwordHash: Self {
        Self(
            allowed: "what `worker dashboard hash-password` prints",
            parse: { text in
                guard let hash = PasswordHash(text) else {
                    throw ValueRefusal(
                        "this is not a hashed password; give what `worker dashboard hash-password` prints"
                    )
                }
                guard hash.isStrong else { throw ValueRefusal(PasswordHash.weakness) }
                return hash
            },
            text: { _ in Secrets.mask }
        )
    }
}

extension ValueRule where Value == String {
    /// A host name or address as in a `Host` header, without a port.
    static var hostName: Self {
        Self(
            allowed: "a host's name or address without a port, such as dashboard.example.com",
            parse: { DashboardConfiguration.isHostName($0) ? $0 : nil },
            text: { $0 }
        )
    }

    /// An address or a network.
    static var addressRange: Self {
        Self(
            allowed: "an address or a network, such as 10.0.0.1 or 10.0.0.0/8",
            parse: { AddressRange($0) == nil ? nil : $0 },
            text: { $0 }
        )
    }
}

extension DashboardConfiguration {
    /// Reads `dashboard`, and reports what is wrong.
    ///
    /// - Returns: The configuration; nil if the file has no such section.
    static func read(_ root: ConfigurationSection, database: ConnectionOptions) -> DashboardConfiguration? {
        let section = root.readSection("dashboard")
        var configuration = DashboardConfiguration(database: database)
        let fallback = DashboardAddress("\(configuration.host):\(configuration.port)")
        if let fallback {
            let address = section.read("listen", .dashboardAddress, default: fallback)
            (configuration.host, configuration.port) = (address.host, address.port)
        }
        configuration.hosts = section.readList("hosts", of: .hostName, default: [])
        configuration.trustedProxies = section.readList("trusted_proxies", of: .addressRange, default: [])
        configuration.users = readUsers(section)
        configuration.proxy = readProxy(section)
        configuration.sessionLifetime = section.read(
            "session",
            .duration(.seconds(60) ... .days(30)),
            default: configuration.sessionLifetime
        )
        configuration.sessionIdleTime = section.read(
            "idle",
            .duration(.seconds(60) ... .days(30)),
            default: configuration.sessionIdleTime
        )
        configuration.securesCookies = section.read("secure_cookies", .flag, default: false)
        configuration.queryTimeout = section.read(
            "query_timeout",
            .duration(.milliseconds(100) ... .seconds(60)),
            default: configuration.queryTimeout
        )
        guard root.has("dashboard") else { return nil }
        root.record(section, as: "dashboard")
        return configuration
    }

    private static func readUsers(_ section: ConfigurationSection) -> [User] {
        let users = section.readSection("users")
        var read: [User] = []
        for entry in users.entries {
            users.know([entry.name])
            do {
                _ = try ValueRule<String>.text("a user's name", bytes: 1...100).read(entry.name)
            } catch {
                users.report(entry.name, error.message)
            }
            let user = users.readSection(entry.name)
            let password = user.readIfPresent("password", .passwordHash, mask: { _ in Secrets.mask })
            let role = user.read("role", .choice, default: DashboardRole.readOnly)
            if let password {
                read.append(User(name: entry.name, password: password, role: role))
            } else if !user.has("password") {
                user.report("password", "a user needs one; give what `worker dashboard hash-password` prints")
            }
            users.record(user, as: entry.name)
        }
        section.record(users, as: "users")
        return read
    }

    private static func readProxy(_ section: ConfigurationSection) -> Proxy? {
        let proxy = section.readSection("proxy")
        let header = proxy.readIfPresent("header", .text("a header's name", bytes: 1...100))
        let peers = proxy.readList("peers", of: .addressRange, default: ["127.0.0.1", "::1"])
        let secret = proxy.readIfPresent(
            "secret",
            .text("a secret", bytes: 16...1024),
            mask: { _ in Secrets.mask }
        )
        let secretHeader = proxy.read(
            "secret_header",
            .text("a header's name", bytes: 1...100),
            default: Proxy.defaultSecretHeader
        )
        let operators = proxy.readList("operators", of: .text("a user's name", bytes: 1...100), default: [])
        guard section.has("proxy") else {
            proxy.finish()
            return nil
        }
        if header == nil, !proxy.has("header") {
            proxy.report("header", "the header that names the user is missing, such as X-Forwarded-User")
        }
        if secret == nil, !proxy.has("secret") {
            proxy.report(
                "secret",
                """
                the secret that the proxy sends is missing: without it, any program that can connect from the proxy's \
                address could name itself a user; make one with `openssl rand -hex 32`, and let the proxy send it in \
                the header \(secretHeader)
                """
            )
        }
        section.record(proxy, as: "proxy")
        guard let header, let secret else { return nil }
        return Proxy(header: header, peers: peers, secret: secret, secretHeader: secretHeader, operators: operators)
    }
}
