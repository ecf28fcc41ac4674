/// The object identifiers of Postgres's built-in types (`pg_type.dat`), which never change.
enum TypeOID {
    static let unspecified: UInt32 = 0
    static let bool: UInt32 = 16
    static let bytea: UInt32 = 17
    static let char: UInt32 = 18
    static let name: UInt32 = 19
    static let int8: UInt32 = 20
    static let int2: UInt32 = 21
    static let int4: UInt32 = 23
    static let text: UInt32 = 25
    static let oid: UInt32 = 26
    static let tid: UInt32 = 27
    static let json: UInt32 = 114
    static let float4: UInt32 = 700
    static let float8: UInt32 = 701
    static let unknown: UInt32 = 705
    static let bpchar: UInt32 = 1042
    static let varchar: UInt32 = 1043
    static let timestamptz: UInt32 = 1184
    static let interval: UInt32 = 1186
    static let jsonb: UInt32 = 3802

    static let boolArray: UInt32 = 1000
    static let int2Array: UInt32 = 1005
    static let int4Array: UInt32 = 1007
    static let int8Array: UInt32 = 1016
    static let float8Array: UInt32 = 1022
    static let textArray: UInt32 = 1009
    static let tidArray: UInt32 = 1010
    static let timestamptzArray: UInt32 = 1185
    static let intervalArray: UInt32 = 1187
    static let jsonbArray: UInt32 = 3807

    /// The name of `oid` for messages, or its number.
    static func name(of oid: UInt32) -> String {
        names[oid].map { "\($0) (OID \(oid))" } ?? "OID \(oid)"
    }

    private static let names: [UInt32: String] = [
        bool: "bool", bytea: "bytea", char: "\"char\"", name: "name", int8: "int8", int2: "int2", int4: "int4",
        text: "text", TypeOID.oid: "oid", tid: "tid", json: "json", float4: "float4", float8: "float8",
        unknown: "unknown",
        bpchar: "bpchar", varchar: "varchar", timestamptz: "timestamptz", interval: "interval", jsonb: "jsonb",
        boolArray: "bool[]", int2Array: "int2[]", int4Array: "int4[]", int8Array: "int8[]",
        float8Array: "float8[]", textArray: "text[]", tidArray: "tid[]", intervalArray: "interval[]",
        timestamptzArray: "timestamptz[]",
        jsonbArray: "jsonb[]",
        1082: "date", 1114: "timestamp", 1015: "varchar[]", 1003: "name[]", 1700: "numeric",
        2249: "record", 2278: "void", 2950: "uuid", 3220: "pg_lsn",
    ]
}
