import CLibpq

public import FoundationEssentials

/// One value of a result.
///
/// Each accessor throws ``PostgresError/Code/decoding`` when the value is NULL, of another type, or not
/// representable; the message names the column, the type found and the type wanted. Those whose names end in `OrNil`
/// return nil for NULL.
public struct Cell: Sendable {
    let result: QueryResult
    let row: Int
    /// Nil when the row has no such column.
    let column: Int?
    /// The column's name, if the value was requested by name.
    let name: String?

    /// Whether the value is NULL. A column that does not exist is not NULL; reading it throws.
    public var isNull: Bool {
        guard let column else { return false }
        return PQgetisnull(result.pointer, Int32(row), Int32(column)) == 1
    }

    /// Calls `body` with the value as the server sent it, without a copy; nil is NULL. The bytes are valid only until
    /// `body` returns.
    public func withUnsafeBytes<Value>(_ body: (UnsafeRawBufferPointer?) throws -> Value) throws -> Value {
        try withExtendedLifetime(result) { try body(raw()) }
    }

    /// An `int2`, `int4`, `int8` or `oid`.
    public func int64() throws(PostgresError) -> Int64 { try required(int64OrNil(), "int8") }

    /// An `int2`, `int4`, `int8` or `oid`; nil is NULL.
    public func int64OrNil() throws(PostgresError) -> Int64? {
        try integer("int8")
    }

    /// An `int2`, `int4`, `int8` or `oid` that fits 32 bits.
    public func int32() throws(PostgresError) -> Int32 { try required(int32OrNil(), "int4") }

    /// An `int2`, `int4`, `int8` or `oid` that fits 32 bits; nil is NULL.
    public func int32OrNil() throws(PostgresError) -> Int32? {
        guard let wide = try integer("int4") else { return nil }
        guard let value = Int32(exactly: wide) else { throw failure("int4", "\(wide) does not fit it") }
        return value
    }

    /// An `int2`, `int4`, `int8` or `oid`.
    public func int() throws(PostgresError) -> Int { try required(intOrNil(), "int8") }

    /// An `int2`, `int4`, `int8` or `oid`; nil is NULL.
    public func intOrNil() throws(PostgresError) -> Int? {
        try integer("int8").map { Int($0) }
    }

    /// A `bool`.
    public func bool() throws(PostgresError) -> Bool { try required(boolOrNil(), "bool") }

    /// A `bool`; nil is NULL.
    public func boolOrNil() throws(PostgresError) -> Bool? {
        try decode("bool", [TypeOID.bool]) { $0.integer(UInt8.self).map { $0 != 0 } }
    }

    /// A `float4` or `float8`.
    public func double() throws(PostgresError) -> Double { try required(doubleOrNil(), "float8") }

    /// A `float4` or `float8`; nil is NULL.
    public func doubleOrNil() throws(PostgresError) -> Double? {
        try decode("float8", [TypeOID.float8, TypeOID.float4]) { $0.float() }
    }

    /// A `float4` or `float8` that counts seconds, limited to a million years either way.
    public func seconds() throws(PostgresError) -> Duration { try required(secondsOrNil(), "seconds") }

    /// A `float4` or `float8` that counts seconds, limited to a million years either way; nil is NULL.
    public func secondsOrNil() throws(PostgresError) -> Duration? {
        guard let seconds = try doubleOrNil() else { return nil }
        // NaN is refused, and so is any number for which the initializer of Duration would trap.
        guard abs(seconds) <= 31_557_600_000_000 else { throw failure("seconds", "\(seconds) is not such a number") }
        return .seconds(seconds)
    }

    /// A `text`, `varchar`, `char(n)`, `"char"`, `name`, `json`, `jsonb` or literal without a type.
    public func string() throws(PostgresError) -> String { try required(stringOrNil(), "text") }

    /// A `text`, `varchar`, `char(n)`, `"char"`, `name`, `json`, `jsonb` or literal without a type; nil is NULL.
    public func stringOrNil() throws(PostgresError) -> String? {
        let isJSONB = type == TypeOID.jsonb
        return try decode("text", BinaryReader.textTypes) { isJSONB ? $0.jsonb() : $0.text() }
    }

    /// A `bytea`.
    public func bytes() throws(PostgresError) -> [UInt8] { try required(bytesOrNil(), "bytea") }

    /// A `bytea`; nil is NULL.
    public func bytesOrNil() throws(PostgresError) -> [UInt8]? {
        try decode("bytea", [TypeOID.bytea]) { $0.rest() }
    }

    /// A `tid`.
    package func tupleID() throws(PostgresError) -> TupleID {
        try required(decode("tid", [TypeOID.tid]) { $0.tupleID() }, "tid")
    }

    /// A `timestamptz`; `infinity` and `-infinity` are infinitely far from the reference date.
    public func date() throws(PostgresError) -> Date { try required(dateOrNil(), "timestamptz") }

    /// A `timestamptz`; nil is NULL.
    public func dateOrNil() throws(PostgresError) -> Date? {
        try decode("timestamptz", [TypeOID.timestamptz]) { $0.timestamp() }
    }

    /// An `interval` without months, whose length is not known; a day counts 24 hours.
    public func interval() throws(PostgresError) -> Duration { try required(intervalOrNil(), "interval") }

    /// An `interval` without months, whose length is not known; a day counts 24 hours; nil is NULL.
    public func intervalOrNil() throws(PostgresError) -> Duration? {
        try decode("interval without months", [TypeOID.interval]) { $0.interval() }
    }
}
