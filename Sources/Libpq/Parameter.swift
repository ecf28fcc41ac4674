public import FoundationEssentials

/// A value for a `$n` of a statement, with its type, in Postgres's binary format.
///
/// The type is sent with the value, so the server never infers it from a text. In a prepared statement the types were
/// determined when it was prepared: write `$1::int8` there and pass ``int8(_:)``.
public struct Parameter: Sendable, Hashable {
    /// The type, as an object identifier; 0 lets the server infer it.
    let oid: UInt32
    /// The value; nil is NULL.
    let bytes: [UInt8]?
    /// The reason why the value cannot be sent. It is found when the parameter is made, and thrown with its position
    /// when the parameter is used.
    let problem: String?

    init(oid: UInt32, bytes: [UInt8]?, problem: String? = nil) {
        self.oid = oid
        self.bytes = bytes
        self.problem = problem
    }

    /// Makes the parameter that `write` writes for `value`; nil is NULL.
    init<Value>(oid: UInt32, _ value: Value?, _ write: (Value, inout BinaryWriter) -> Void) {
        var writer = BinaryWriter()
        if let value { write(value, &writer) }
        self.init(oid: oid, bytes: value == nil ? nil : writer.bytes, problem: writer.problem)
    }

    /// A NULL whose type the server infers.
    public static let null = Parameter(oid: TypeOID.unspecified, bytes: nil)

    /// An `int8` (`bigint`); nil is NULL.
    public static func int8(_ value: Int64?) -> Parameter {
        Parameter(oid: TypeOID.int8, value) { $1.integer($0) }
    }

    /// An `int4` (`integer`); nil is NULL.
    public static func int4(_ value: Int32?) -> Parameter {
        Parameter(oid: TypeOID.int4, value) { $1.integer($0) }
    }

    /// An `int2` (`smallint`); nil is NULL.
    public static func int2(_ value: Int16?) -> Parameter {
        Parameter(oid: TypeOID.int2, value) { $1.integer($0) }
    }

    /// A `bool`; nil is NULL.
    public static func bool(_ value: Bool?) -> Parameter {
        Parameter(oid: TypeOID.bool, value) { $1.integer($0 ? UInt8(1) : 0) }
    }

    /// A `float8` (`double precision`), infinities and NaN included; nil is NULL.
    public static func float8(_ value: Double?) -> Parameter {
        Parameter(oid: TypeOID.float8, value) { $1.integer($0.bitPattern) }
    }

    /// A `text`; nil is NULL. A text with U+0000 is refused when it is used, because Postgres cannot store it.
    public static func text(_ value: String?) -> Parameter {
        Parameter(oid: TypeOID.text, value) { $1.text($0) }
    }

    /// A `bytea`; nil is NULL.
    public static func bytea(_ value: [UInt8]?) -> Parameter {
        Parameter(oid: TypeOID.bytea, bytes: value)
    }

    /// A `jsonb`, given as the text of the JSON; nil is NULL. The server checks that it is JSON. U+0000 in the text is
    /// refused here, and the escape `\u0000` by the server.
    public static func jsonb(_ value: String?) -> Parameter {
        Parameter(oid: TypeOID.jsonb, value) { $1.jsonb($0) }
    }

    /// An `interval` in microseconds; nil is NULL. Fractions of a microsecond are cut off.
    public static func interval(_ value: Duration?) -> Parameter {
        Parameter(oid: TypeOID.interval, value) { $1.interval($0) }
    }

    /// A `timestamptz`, to the microsecond; infinite dates are `infinity` and `-infinity`; nil is NULL.
    public static func timestamptz(_ value: Date?) -> Parameter {
        Parameter(oid: TypeOID.timestamptz, value) { $1.timestamp($0) }
    }
}
