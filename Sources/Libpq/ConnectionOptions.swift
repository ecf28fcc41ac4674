import CLibpq

/// The address of a server and how to connect to it.
public struct ConnectionOptions: Sendable {
    /// A `postgresql://` URL or `keyword=value` pairs in libpq's syntax, which includes several hosts and
    /// `target_session_attrs`. Values that it leaves out come from libpq's environment variables (`PGHOST`, …), its
    /// service file and its defaults. Defaults to the empty string.
    public var conninfo: String
    /// The name in `pg_stat_activity`, unless the conninfo or `PGAPPNAME` gives another. Defaults to `breakwater`.
    public var applicationName: String
    /// The timeout of the whole attempt, over all hosts and their addresses. Each of them gets a share of the remaining
    /// time. It replaces libpq's `connect_timeout`. Defaults to 10 seconds.
    public var connectTimeout: Duration
    /// libpq keywords that override the conninfo's. Defaults to none.
    public var keywords: [String: String]
    /// Resolves a host's name to its addresses. Tests replace it.
    var resolve: @Sendable (_ name: String) -> [String] = HostList.addresses(of:)

    /// Makes options. Nothing is read or checked before ``check()`` or ``Connection/connect(_:logger:)``.
    public init(
        _ conninfo: String = "",
        applicationName: String = "breakwater",
        connectTimeout: Duration = .seconds(10),
        keywords: [String: String] = [:]
    ) {
        self.conninfo = conninfo
        self.applicationName = applicationName
        self.connectTimeout = connectTimeout
        self.keywords = keywords
    }

    /// Keywords that are set unless the conninfo or a service gives them, so that a silently lost peer is detected
    /// after about half a minute: probes start after 15 s of silence and are sent every 5 s, and 3 may fail. Sent data
    /// must be acknowledged within 30 s (`tcp_user_timeout` is in milliseconds).
    private static let keepalives = [
        "keepalives_idle": "15", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "30000",
    ]

    /// Refuses options that cannot be read, without connecting.
    ///
    /// - Throws: ``PostgresError`` with the problem, without the conninfo itself.
    public func check() throws(PostgresError) { _ = try resolved() }

    /// The keywords for libpq.
    func resolved() throws(PostgresError) -> [String: String] {
        for text in [conninfo, applicationName] + keywords.keys + keywords.values where text.utf8.contains(0) {
            throw PostgresError(.connectionFailed, "the connection options contain U+0000")
        }
        var resolved = try parsed()
        resolved.merge(keywords) { $1 }
        if resolved["service"] == nil { resolved.merge(Self.keepalives) { given, _ in given } }
        if resolved["fallback_application_name"] == nil { resolved["fallback_application_name"] = applicationName }
        // Texts are decoded as UTF-8, so the environment must not change the encoding.
        resolved["client_encoding"] = "UTF8"
        return resolved
    }

    /// The keywords of the conninfo itself.
    private func parsed() throws(PostgresError) -> [String: String] {
        var message: UnsafeMutablePointer<CChar>?
        defer { PQfreemem(message) }
        guard let options = PQconninfoParse(conninfo, &message) else {
            let said = message.map { PostgresError.tidy(String(cString: $0)) } ?? "out of memory"
            let shown = Self.withoutQuotations(said)
            let note = shown == said ? "" : " (what … stands for is hidden, for it may be part of a password)"
            throw PostgresError(.connectionFailed, "the conninfo cannot be read: \(shown)\(note)")
        }
        defer { PQconninfoFree(options) }
        let values = Self.values(of: options)
        if Self.isSplitByUnescapedCharacter(values) {
            throw PostgresError(
                .connectionFailed,
                "the conninfo cannot be read: its host, port or database name holds what belongs to the password; "
                    + "in a URL, write @ / ? # % : of a user or password as %40 %2F %3F %23 %25 %3A"
            )
        }
        return values
    }

    /// Whether a character that should have been encoded has split a URL at the wrong place. libpq and logs would show
    /// the pieces, which may contain parts of the password. (A host that begins with @ is an abstract socket.)
    private static func isSplitByUnescapedCharacter(_ values: [String: String]) -> Bool {
        let hosts = values["host"]?.split(separator: ",") ?? []
        return hosts.contains { $0.dropFirst().contains("@") }
            || values["port"]?.contains { !$0.isNumber && $0 != "," } ?? false
            || values["dbname"]?.contains("@") ?? false
    }

    private static func values(of options: UnsafeMutablePointer<PQconninfoOption>) -> [String: String] {
        var values: [String: String] = [:]
        var option = options
        while let keyword = option.pointee.keyword {
            values[String(cString: keyword)] = option.pointee.val.map { String(cString: $0) }
            option += 1
        }
        return values
    }

    /// libpq quotes text that it cannot parse, which may be a part of a password. So all quotations except the names of
    /// options are hidden.
    static func withoutQuotations(_ text: String) -> String {
        let names = keywordNames
        return text.split(separator: "\"", omittingEmptySubsequences: false).enumerated()
            .map { index, part in
                let isHidden = index % 2 == 1 && part.count > 1 && !names.contains(String(part))
                return isHidden ? "…" : String(part)
            }
            .joined(separator: "\"")
    }

    /// Every keyword that libpq knows.
    private static let keywordNames: Set<String> = {
        guard let options = PQconndefaults() else { return [] }
        defer { PQconninfoFree(options) }
        var names: Set<String> = []
        var option = options
        while let keyword = option.pointee.keyword {
            names.insert(String(cString: keyword))
            option += 1
        }
        return names
    }()

    /// The values from the environment, from the service file of `PGSERVICE` or from libpq's defaults.
    static func defaults() -> [String: String] {
        guard let options = PQconndefaults() else { return [:] }
        defer { PQconninfoFree(options) }
        return values(of: options)
    }
}

extension ConnectionOptions: CustomStringConvertible {
    /// Host, port, database and user, for logs; never the password.
    public var description: String {
        guard var values = try? parsed() else { return "(unreadable conninfo)" }
        values.merge(keywords) { $1 }
        let defaults = Self.defaults()
        return ["host", "port", "dbname", "user"]
            .compactMap { key in
                let value = values[key] ?? (key == "host" ? values["hostaddr"] : nil) ?? defaults[key]
                return value.map { "\(key)=\($0)" }
            }
            .joined(separator: " ")
    }
}
