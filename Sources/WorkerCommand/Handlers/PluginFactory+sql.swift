import Breakwater
import BreakwaterSQL
import Libpq

extension PluginFactory {
    /// `sql` calls a function of the database for each job, and settles the job in the same transaction.
    static let sql = PluginFactory(name: "sql") { section, kind in
        let function = section.readIfPresent("function", .qualifiedFunction)
        if !section.has("function") {
            section.report("there is no function; give one, such as function: app.apply_payment")
        }
        let role = section.readIfPresent("role", .text("the name of a role", bytes: 1...63))
        if !section.has("role") {
            section.report(
                "there is no role with whose rights the function runs; create one, and give it: role: app_jobs"
            )
        }
        let database = section.readIfPresent(
            "database",
            .text("a postgresql:// URL or keyword=value pairs", bytes: 1...4096),
            mask: Secrets.maskingPasswords(inConninfo:)
        )
        let connections = section.read("connections", .whole(SQLPlugin.connectionsRange), default: 4)
        let discardOn = section.readList("discard_on", of: .sqlState, default: [])
        let retryOn = section.readList("retry_on", of: .sqlState, default: [])
        let maxResult = section.read("max_result", .bytes(SQLPlugin.maxResultRange), default: 1 << 20)
        guard section.isFine, let function, let role else { return nil }
        do {
            return try SQLPlugin(
                function: function,
                role: role,
                database: database.map { ConnectionOptions($0) },
                connections: connections,
                discardOn: discardOn,
                retryOn: retryOn,
                maxResultBytes: maxResult
            )
        } catch let error as SQLPluginError {
            section.report(error.code.key, error.message)
            return nil
        }
    }
}

extension SQLPluginError.Code {
    /// The key whose value is at fault.
    fileprivate var key: String {
        switch self {
        case .invalidFunction: "function"
        case .invalidRole: "role"
        case .invalidConnections: "connections"
        case .invalidDiscardOn: "discard_on"
        case .invalidRetryOn: "retry_on"
        case .invalidLimit: "max_result"
        }
    }
}

extension ValueRule where Value == String {
    /// The name of a function with its schema.
    fileprivate static var qualifiedFunction: Self {
        Self(
            allowed: "a function with its schema, such as app.apply_payment",
            parse: { SQLPlugin.isQualifiedName($0) ? $0 : nil },
            text: { $0 }
        )
    }

    /// A SQLSTATE or a class of them.
    fileprivate static var sqlState: Self {
        Self(
            allowed: "a SQLSTATE, such as \"23505\", or the first two characters of several, such as \"23\"",
            parse: { SQLPlugin.isState($0) ? $0 : nil },
            text: { $0 }
        )
    }
}
