import Foundation
import Libpq
import Testing

@Suite("Values that cannot be read or sent", .enabled(if: TestServer.isThere, TestServer.reason))
struct DecodingTests {
    @Test func `a value of another type is refused with the column, the type found and the type wanted`() async throws {
        try await withConnection { connection in
            let row = try await connection.query("select 'x'::text as label, null::int4 as missing, 2^40::int8 as big")[
                0
            ]
            let mismatch = try await failure { _ = try row["label"].int64() }
            #expect(mismatch.code == .decoding)
            #expect(mismatch.message.contains("\"label\" of type text (OID 25) cannot be read as int8"))
            let null = try await failure { _ = try row["missing"].int() }
            #expect(null.message.contains("it is NULL"))
            let absent = try await failure { _ = try row["lable"].string() }
            #expect(absent.message.contains("no column \"lable\""))
            #expect(absent.message.contains("\"label\", \"missing\", \"big\""))
            #expect(!row["lable"].isNull)
            let outside = try await failure { _ = try row[3].string() }
            #expect(outside.code == .decoding)
        }
    }

    @Test func `an integer that does not fit is refused`() async throws {
        try await withConnection { connection in
            let row = try await connection.query("select 4294967296::int8, 2147483647::int8")[0]
            #expect(try await failure { _ = try row[0].int32() }.message.contains("4294967296 does not fit"))
            #expect(try row[1].int32() == .max)
        }
    }

    @Test func `arrays of more dimensions are refused`() async throws {
        try await withConnection { connection in
            let row = try await connection.query("select '{{1,2},{3,4}}'::int8[]")[0]
            #expect(try await failure { _ = try row[0].int64Array() }.code == .decoding)
        }
    }

    @Test(arguments: [
        Parameter.text("a\0b"), .jsonb("\"\0\""), .textArray(["fine", "\0"]), .jsonbArray(["\0"]),
        .timestamptz(Date(timeIntervalSince1970: 1e15)), .timestamptz(Date(timeIntervalSince1970: .nan)),
        .interval(.seconds(Int64.max)), .intervalArray([.seconds(Int64.min)]),
    ])
    func `what cannot be stored is refused before anything is sent`(_ parameter: Parameter) async throws {
        try await withConnection(TestServer.direct) { connection in
            try await connection.script("create temp table t (n int)")
            let error = try await failure {
                _ = try await connection.pipeline([
                    Statement("insert into t values (1)"), Statement("select $1, $2", [.int8(1), parameter]),
                ])
            }
            #expect(error.code == .invalidParameter)
            #expect(error.message.hasPrefix("parameter $2: "))
            #expect(error.statement == 1)
            #expect(try await connection.query("select * from t").isEmpty)
        }
    }

    @Test func `NUL in SQL and too many parameters are refused`() async throws {
        try await withConnection { connection async throws in
            #expect(try await failure { _ = try await connection.query("select 1\0") }.code == .misuse)
            #expect(try await failure { try await connection.script("select 1\0") }.code == .misuse)
            let many = [Parameter](repeating: .int8(1), count: 65_536)
            #expect(try await failure { _ = try await connection.query("select 1", many) }.code == .invalidParameter)
            #expect(!connection.isClosed)
        }
    }
}
