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

    @Test func `the number of rows that a command touched`() async throws {
        try await withConnection(TestServer.direct) { connection in
            let results = try await connection.pipeline([
                Statement("create temp table t (n int)"), Statement("insert into t select generate_series(1, 5)"),
                Statement("update t set n = n + 1 where n > 3"), Statement("delete from t"), Statement(""),
            ])
            #expect(results.map(\.affectedRows) == [0, 5, 2, 5, 0])
            #expect(results.map(\.count) == [0, 0, 0, 0, 0])
        }
    }

    @Test func `a pipeline is one transaction, and the connection is of use after it failed`() async throws {
        try await withConnection(TestServer.direct) { connection in
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

    @Test func `an error carries the server's message, detail, hint and context`() async throws {
        try await withConnection { connection in
            let error = try await failure {
                _ = try await connection.pipeline([
                    Statement(
                        """
                        do $$ begin
                          raise exception 'no more cake' using detail = 'eaten', hint = 'bake', errcode = 'BW001';
                        end $$
                        """
                    )
                ])
            }
            #expect(error.code == .server)
            #expect(error.message == "no more cake")
            #expect(error.sqlState == "BW001")
            #expect(error.detail == "eaten")
            #expect(error.hint == "bake")
            #expect(error.context?.contains("PL/pgSQL") == true)
            #expect("\(error)".contains("BW001"))
            #expect(try await failure { _ = try await connection.query("select nothing") }.position == 8)
        }
    }

    @Test func `overlapping pipelines are answered in the order of the calls`() async throws {
        try await withConnection(TestServer.direct) { blocker in
            try await withConnection(TestServer.direct) { connection in
                try await connection.script("create temp sequence s")
                _ = try await blocker.query("select pg_advisory_lock(hashtext('overlap'))")
                let head = Task { try await connection.query("select pg_advisory_lock(hashtext('overlap'))") }
                try await eventually { try await isWaitingForLock(connection, asSeenBy: blocker) }
                // An immediate task has made its call when its initializer returns.
                let tasks = (Int64(0)..<100).map { number in
                    Task.immediate {
                        let results = try await connection.pipeline([
                            Statement("select nextval('s')"), Statement("select $1", [.int8(number)]),
                        ])
                        return try results.map { try $0[0][0].int64() }
                    }
                }
                _ = try await blocker.query("select pg_advisory_unlock(hashtext('overlap'))")
                _ = try await head.value
                for (number, task) in zip(Int64(0)..., tasks) {
                    #expect(try await task.value == [number + 1, number])
                }
            }
        }
    }

    @Test func `a failed unit does not touch the next one in flight`() async throws {
        try await withConnection { connection async throws in
            let bad = Task.immediate { try await connection.query("select 1/0") }
            let good = Task.immediate { try await connection.query("select 1") }
            #expect(try await failure { _ = try await bad.value }.sqlState == "22012")
            #expect(try await good.value[0][0].int() == 1)
        }
    }

    @Test func `a prepared statement runs again and again`() async throws {
        try await withConnection(TestServer.direct) { connection in
            try await connection.prepare("double", "select $1::int8 * 2")
            for number in Int64(1)...3 {
                let results = try await connection.pipeline([Statement(prepared: "double", [.int8(number)])])
                #expect(try results[0][0][0].int64() == number * 2)
            }
            #expect(try await failure { try await connection.prepare("double", "select 1") }.sqlState == "42P05")
            let unknown = try await failure { _ = try await connection.pipeline([Statement(prepared: "none")]) }
            #expect(unknown.sqlState == "26000")
        }
    }

    @Test func `a script runs many statements between pipelines`() async throws {
        try await withConnection(TestServer.direct) { connection in
            let before = Task.immediate { try await connection.query("select 1") }
            try await connection.script("create temp table s (n int); insert into s values (7); select 1")
            #expect(try await before.value.count == 1)
            #expect(try await connection.query("select n from s")[0][0].int() == 7)
            let error = try await failure { try await connection.script("insert into s values (8); select 1/0") }
            #expect(error.sqlState == "22012")
            #expect(error.statement == nil)
            #expect(try await connection.query("select count(*) from s")[0][0].int() == 1)
        }
    }

    @Test func `a command that cannot run in a transaction runs alone`() async throws {
        try await withConnection { connection in
            _ = try await connection.query("vacuum pg_catalog.pg_am")
            _ = try await connection.query("begin")
            _ = try await connection.query("rollback")
        }
    }

    @Test func `an empty pipeline is answered with nothing`() async throws {
        try await withConnection { connection async throws in
            #expect(try await connection.pipeline([]).isEmpty)
            #expect(try await connection.query("select 1")[0][0].int() == 1)
        }
    }

    @Test func `COPY is refused, and does not hang`() async throws {
        let connection = try await Connection.connect(TestServer.options, logger: TestServer.silent)
        let error = try await failure { _ = try await connection.query("copy (select 1) to stdout") }
        #expect([.misuse, .connectionLost].contains(error.code))
        await connection.close()
    }

    @Test func `parameters and results of ten megabytes both ways`() async throws {
        try await withConnection { connection in
            let bytes = [UInt8](unsafeUninitializedCapacity: 10_000_000) { buffer, count in
                for index in buffer.indices { buffer[index] = UInt8(truncatingIfNeeded: index &* 31 &+ index >> 8) }
                count = buffer.count
            }
            let text = String(repeating: "žluť", count: 2_000_000)
            async let first = connection.query("select $1, length($1)", [.bytea(bytes)])
            async let second = connection.pipeline([
                Statement("select $1", [.text(text)]), Statement("select $1", [.bytea(bytes)]),
            ])
            let row = try await first[0]
            #expect(try row[1].int() == bytes.count)
            #expect(try row[0].bytes() == bytes)
            #expect(try await second[0][0][0].string() == text)
            #expect(try await second[1][0][0].bytes() == bytes)
        }
    }

    @Test func `many large units at once do not block each other's sockets`() async throws {
        try await withConnection(TestServer.direct) { connection in
            let text = String(repeating: "x", count: 1_000_000)
            let lengths = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<20 {
                    group.addTask {
                        try await connection.query("select repeat($1, 2)", [.text(text)])[0][0].string().utf8.count
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(lengths == Array(repeating: 2_000_000, count: 20))
        }
    }
}

/// Whether `connection`'s session waits for a lock.
func isWaitingForLock(_ connection: Connection, asSeenBy observer: Connection) async throws -> Bool {
    let sql = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1"
    return try await observer.query(sql, [.int4(connection.backendPID)]).first?[0].boolOrNil() ?? false
}
