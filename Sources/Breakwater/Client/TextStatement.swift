import struct Foundation.Date

/// A SQL statement whose parameters and results are all texts, so that any Postgres client can run it.
///
/// `$1`, `$2` and so on stand for ``bindings``. Each is cast in the SQL, so a client binds it as `text`, or leaves its
/// type to the server. The statement returns one column of type `text`.
///
/// Most programs never see one: ``BreakwaterClient`` and `Connection` run them. Make one for another client with
/// ``JobDatabase``.
public struct TextStatement: Sendable, Hashable {
    /// The statement.
    public var sql: String
    /// The values of the parameters, in order; nil stands for NULL.
    public var bindings: [String?]

    init(_ sql: String, _ bindings: [String?]) {
        self.sql = sql
        self.bindings = bindings
    }
}

extension TextStatement {
    /// A time as `to_timestamp(… :: float8)` takes it: seconds since 1970.
    static func seconds(_ date: Date?) -> String? { date.map { "\($0.timeIntervalSince1970)" } }

    /// Numbers as the text of an array.
    static func array(_ numbers: [Int64]?) -> String? {
        numbers.map { "{" + $0.map(String.init).joined(separator: ",") + "}" }
    }

    /// Texts as the text of an array. Inside quotation marks, only these two characters need an escape.
    static func array(_ texts: [String]) -> String {
        var array = "{"
        for (index, text) in texts.enumerated() {
            if index > 0 { array += "," }
            array += "\""
            for scalar in text.unicodeScalars {
                if scalar == "\\" || scalar == "\"" { array += "\\" }
                array.unicodeScalars.append(scalar)
            }
            array += "\""
        }
        return array + "}"
    }
}
