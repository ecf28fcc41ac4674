import Libpq
import Testing

@Suite("Queries and pipelines", .enabled(if: TestServer.isThere, TestServer.reason))
struct QueryTests {
    @Test func `a query returns its rows and columns`() async throws {
        try await withConnection { connection in
            let result = try await connection.query(
                "select n, 'row ' || n as label from generate_series(1, $1) n order by n",
                [.int4(3)]
            )
            #expect(result.columns == ["n", "label"])
            #expect(try result.map { try $0["n"].int() } == [1, 2, 3])
            #expect(try result[2]["label"].string() == "row 3")
        }
    }

    @Test func `a pipeline is one transaction, and the connection is of use after it failed`() async throws {
        try await withConnection { connection in
            try await connection.script("create temp table t (n int primary key)")
            let error = try await failure {
                _ = try await connection.pipeline([
                    Statement("insert into t values (1)"), Statement("insert into t values (1)"),
                    Statement("insert into t values (2)"),
                ])
            }
            #expect(error.code == .server)
            #expect(error.sqlState == "23505")
            #expect(error.statement == 1)
            #expect(error.constraint == "t_pkey")
            #expect(error.detail?.contains("already exists") == true)
            #expect(try await connection.query("select count(*) from t")[0][0].int() == 0)
        }
    }
}
