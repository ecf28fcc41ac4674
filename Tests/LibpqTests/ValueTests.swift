import Foundation
import Libpq
import Testing

@Suite("Values go to the server and come back", .enabled(if: TestServer.isThere, TestServer.reason))
struct ValueTests {
    /// Sends `parameter` as `type`, checks how the server prints it, and reads it back.
    private func roundTrip<Value: Sendable>(
        _ parameter: Parameter,
        _ type: String,
        is text: String?,
        _ read: @Sendable (Cell) throws -> Value
    ) async throws -> Value {
        try await withConnection { connection in
            let row = try await connection.query("select $1 as v, pg_typeof($1)::text, $1::text", [parameter])[0]
            #expect(try row[1].string() == type)
            #expect(try row[2].stringOrNil() == text)
            return try read(row["v"])
        }
    }

    @Test(arguments: [Int64.min, -1, 0, 1, .max])
    func `int8`(_ value: Int64) async throws {
        #expect(try await roundTrip(.int8(value), "bigint", is: "\(value)") { try $0.int64() } == value)
    }

    @Test(arguments: [Int32.min, 0, .max])
    func `int4`(_ value: Int32) async throws {
        #expect(try await roundTrip(.int4(value), "integer", is: "\(value)") { try $0.int32() } == value)
    }

    @Test(arguments: [Int16.min, 0, .max])
    func `int2`(_ value: Int16) async throws {
        #expect(try await roundTrip(.int2(value), "smallint", is: "\(value)") { try $0.int() } == Int(value))
    }

    @Test(arguments: [true, false])
    func `bool`(_ value: Bool) async throws {
        #expect(try await roundTrip(.bool(value), "boolean", is: "\(value)") { try $0.bool() } == value)
    }

    @Test(
        arguments: [
            (0, "0"), (-0.0, "-0"), (.infinity, "Infinity"), (-.infinity, "-Infinity"),
            (.greatestFiniteMagnitude, "1.7976931348623157e+308"), (.leastNonzeroMagnitude, "5e-324"), (0.1, "0.1"),
        ] as [(Double, String)]
    )
    func `float8`(_ value: Double, _ text: String) async throws {
        let back = try await roundTrip(.float8(value), "double precision", is: text) { try $0.double() }
        #expect(back.bitPattern == value.bitPattern)
    }

    @Test func `float8 that is not a number, and float4`() async throws {
        #expect(try await roundTrip(.float8(.nan), "double precision", is: "NaN") { try $0.double() }.isNaN)
        try await withConnection { connection async throws in
            #expect(try await connection.query("select 1.5::float4")[0][0].double() == 1.5)
        }
    }

    @Test(arguments: ["", "plain", "žluťoučký 🐎", "\u{1}\u{FFFF}\u{10FFFF}", "it's \"quoted\" \\ {,}"])
    func `text`(_ value: String) async throws {
        #expect(try await roundTrip(.text(value), "text", is: value) { try $0.string() } == value)
    }

    @Test(arguments: [[], [0], Array(UInt8.min...UInt8.max)] as [[UInt8]])
    func `bytea`(_ value: [UInt8]) async throws {
        let hex = "\\x" + value.map { String(format: "%02x", $0) }.joined()
        #expect(try await roundTrip(.bytea(value), "bytea", is: hex) { try $0.bytes() } == value)
        #expect(
            try await roundTrip(.bytea(value), "bytea", is: hex) { cell in
                try cell.withUnsafeBytes { $0.map { Array($0) } }
            } == value
        )
    }

    @Test func `jsonb`() async throws {
        let text = "{\"a\": [1, null, \"ž\"]}"
        #expect(try await roundTrip(.jsonb(text), "jsonb", is: text) { try $0.string() } == text)
    }

    @Test(
        arguments: [
            (.zero, "00:00:00"), (.microseconds(1), "00:00:00.000001"), (.microseconds(-1), "-00:00:00.000001"),
            (.seconds(36 * 3_600), "36:00:00"), (.microseconds(Int64.max), "2562047788:00:54.775807"),
            (.microseconds(Int64.min), "-2562047788:00:54.775808"),
        ] as [(Duration, String)]
    )
    func `interval`(_ value: Duration, _ text: String) async throws {
        #expect(try await roundTrip(.interval(value), "interval", is: text) { try $0.interval() } == value)
    }

    @Test func `an interval's days count 24 hours, and months are refused`() async throws {
        try await withConnection { connection in
            let row = try await connection.query("select interval '2 days 3 hours', interval '1 month'")[0]
            #expect(try row[0].interval() == .seconds(51 * 3_600))
            let error = #expect(throws: PostgresError.self) { try row[1].interval() }
            #expect(error?.code == .decoding)
            #expect(error?.message.contains("interval without months") == true)
        }
    }

    @Test(
        arguments: [
            (0, "1970-01-01 00:00:00+00"), (-86_400, "1969-12-31 00:00:00+00"),
            (1_795_435_200.123456, "2026-11-23 12:00:00.123456+00"), (.infinity, "infinity"), (-.infinity, "-infinity"),
            (-62_135_596_800, "0001-01-01 00:00:00+00"),
        ] as [(Double, String)]
    )
    func `timestamptz`(_ seconds: Double, _ text: String) async throws {
        let value = Date(timeIntervalSince1970: seconds)
        try await withConnection(TestServer.direct) { connection in
            try await connection.script("set timezone = 'UTC'")
            let row = try await connection.query("select $1, $1::text", [.timestamptz(value)])[0]
            #expect(try row[1].string() == text)
            let back = try row[0].date()
            #expect(back == value || abs(back.timeIntervalSince(value)) < 0.000_000_5)
        }
    }

    @Test func `arrays`() async throws {
        try await withConnection { connection in
            let row = try await connection.query(
                "select $1, $2, $3, $4, $5, $6, $7, $8, $9, $6::text",
                [
                    .int8Array([.min, 0, .max]), .int4Array([.min, .max]), .int2Array([.min, .max]),
                    .boolArray([true, false]), .float8Array([-.infinity, 0.5]),
                    .textArray(["", nil, "NULL", "ž,{}\""]),
                    .jsonbArray(["{}", nil, "[1]"]), .intervalArray([.seconds(1), nil, .zero]),
                    .int8OptionalArray([1, nil]),
                ]
            )[0]
            #expect(try row[0].int64Array() == [.min, 0, .max])
            #expect(try row[1].int64Array() == [Int64(Int32.min), Int64(Int32.max)])
            #expect(try row[2].int64Array() == [Int64(Int16.min), Int64(Int16.max)])
            #expect(try row[3].boolArray() == [true, false])
            #expect(try row[4].doubleArray() == [-.infinity, 0.5])
            #expect(try row[5].stringOptionalArrayOrNil() == ["", nil, "NULL", "ž,{}\""])
            #expect(try row[6].stringOptionalArrayOrNil() == ["{}", nil, "[1]"])
            #expect(try row[7].intervalOptionalArray() == [.seconds(1), nil, .zero])
            #expect(try row[8].int64OptionalArrayOrNil() == [1, nil])
            #expect(try row[9].string() == #"{"",NULL,"NULL","ž,{}\""}"#)
            #expect(throws: PostgresError.self) { try row[5].stringArray() }
        }
    }

    @Test func `empty arrays`() async throws {
        try await withConnection { connection in
            let row = try await connection.query(
                "select $1, $2, $3, $4, $5, $6, $7, $8, cardinality($1) + cardinality($6)",
                [
                    .int8Array([]), .int4Array([]), .int2Array([]), .boolArray([]), .float8Array([]), .textArray([]),
                    .jsonbArray([]), .intervalArray([]),
                ]
            )[0]
            for column in 0..<3 { #expect(try row[column].int64Array() == []) }
            #expect(try row[3].boolArray() == [])
            #expect(try row[4].doubleArray() == [])
            #expect(try row[5].stringArray() == [])
            #expect(try row[6].stringArray() == [])
            #expect(try row[7].intervalOptionalArray() == [])
            #expect(try row[8].int() == 0)
        }
    }

    @Test func `nulls of every type`() async throws {
        try await withConnection { connection in
            let parameters: [Parameter] = [
                .int8(nil), .int4(nil), .int2(nil), .bool(nil), .float8(nil), .text(nil), .bytea(nil), .jsonb(nil),
                .interval(nil), .timestamptz(nil), .null,
            ]
            let list = (1...parameters.count).map { "$\($0)" }.joined(separator: ", ")
            let row = try await connection.query("select \(list)", parameters)[0]
            for column in parameters.indices { #expect(row[column].isNull) }
            #expect(try row[0].int64OrNil() == nil)
            #expect(try row[1].int32OrNil() == nil)
            #expect(try row[2].intOrNil() == nil)
            #expect(try row[3].boolOrNil() == nil)
            #expect(try row[4].doubleOrNil() == nil)
            #expect(try row[5].stringOrNil() == nil)
            #expect(try row[6].bytesOrNil() == nil)
            #expect(try row[7].stringOrNil() == nil)
            #expect(try row[8].intervalOrNil() == nil)
            #expect(try row[9].dateOrNil() == nil)
            #expect(try row[10].stringOrNil() == nil)
            #expect(try row[0].withUnsafeBytes { $0 == nil })
        }
    }

    @Test func `the texts of names, json and untyped literals`() async throws {
        try await withConnection { connection in
            let row = try await connection.query(
                #"select 'n'::name, '{"a":1}'::json, 'v'::varchar, 'c'::char(2), 'x'::"char", 'literal', 7::oid"#
            )[0]
            #expect(try (0..<6).map { try row[$0].string() } == ["n", #"{"a":1}"#, "v", "c ", "x", "literal"])
            #expect(try row[6].int64() == 7)
        }
    }
}
