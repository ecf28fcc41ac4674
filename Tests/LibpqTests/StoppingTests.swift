import Libpq
import Testing

@Suite("Cancelling and deadlines", .enabled(if: TestServer.isThere, TestServer.reason))
struct StoppingTests {
    /// Waits until `connection`'s session runs a statement that contains `marker`.
    private func untilRunning(_ marker: String, on connection: Connection, asSeenBy observer: Connection) async throws {
        try await eventually {
            try await observer.query(
                "select 1 from pg_stat_activity where pid = $1 and state = 'active' and query like '%' || $2 || '%'",
                [.int4(connection.backendPID), .text(marker)]
            ).count == 1
        }
    }

    /// Waits until the connection has accepted the calls made so far. It does this with a call that the connection
    /// refuses.
    private func untilTaken(by connection: Connection) async {
        _ = try? await connection.query("\0")
    }

    @Test func `a query cancelled in flight leaves its neighbours alone`() async throws {
        try await withConnection(TestServer.direct) { observer in
            try await withConnection(TestServer.direct) { connection in
                try await withConnection(TestServer.direct) { neighbour in
                    async let other = neighbour.query("select 'alive' from pg_sleep(1)")
                    let task = Task { try await connection.query("select pg_sleep(60) /* doomed */") }
                    try await untilRunning("doomed", on: connection, asSeenBy: observer)
                    task.cancel()
                    // This call waits until the cancel request is over, so that the request cannot hit it.
                    let next = try await connection.query("select 'next' from pg_sleep(0.2)")
                    let error = try await failure { _ = try await task.value }
                    #expect(error.code == .cancelled)
                    #expect(try next[0][0].string() == "next")
                    #expect(try await other[0][0].string() == "alive")
                    #expect(!connection.isClosed)
                }
            }
        }
    }

    @Test func `cancelling again and again never hits the query that follows`() async throws {
        try await withConnection(TestServer.direct) { connection in
            var cancelled = 0
            for round in 0..<200 {
                let task = Task { try await connection.query("select pg_sleep(\(Double(round % 8) / 1_000))") }
                if round % 3 == 0 { await Task.yield() }
                task.cancel()
                #expect(try await connection.query("select $1", [.int4(Int32(round))])[0][0].int() == round)
                do { _ = try await task.value } catch let error as PostgresError {
                    #expect(error.code == .cancelled)
                    cancelled += 1
                }
                try #require(!connection.isClosed)
            }
            #expect(cancelled > 0)
        }
    }

    @Test func `a task that is cancelled already sends nothing`() async throws {
        try await withConnection(TestServer.direct) { connection async throws in
            let task = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                _ = try await connection.query("create temp table never (n int)")
            }
            #expect(try await failure { try await task.value }.code == .cancelled)
            #expect(try await connection.query("select to_regclass('never') is null")[0][0].bool())
        }
    }

    @Test func `a deadline passes, and the connection is of use after it`() async throws {
        try await withConnection(TestServer.direct) { connection in
            try await connection.script("create temp table t (n int)")
            // The second statement waits for this lock, which is never released.
            let holder = try await Connection.connect(TestServer.direct, logger: TestServer.silent)
            let lock = Int64.random(in: .min ... .max)
            _ = try await holder.query("select pg_advisory_lock($1)", [.int8(lock)])
            let start = ContinuousClock.now
            let error = try await failure {
                _ = try await connection.pipeline(
                    [
                        Statement("insert into t values (1)"),
                        Statement("select pg_advisory_lock($1)", [.int8(lock)]),
                    ],
                    timeout: .milliseconds(200)
                )
            }
            #expect(error.code == .timedOut)
            #expect(ContinuousClock.now - start < .seconds(300))
            #expect(try await connection.query("select count(*) from t")[0][0].int() == 0)
            #expect(!connection.isClosed)
            await holder.close()
        }
    }

    @Test func `a script past its deadline is cancelled too`() async throws {
        try await withConnection(TestServer.direct) { connection in
            let error = try await failure {
                try await connection.script("select 1; select pg_sleep(60)", timeout: .milliseconds(100))
            }
            #expect(error.code == .timedOut)
            #expect(try await connection.query("select 1")[0][0].int() == 1)
        }
    }

    @Test func `preparing a statement past its deadline is cancelled too`() async throws {
        let table = "locked_\(UInt64.random(in: .min ... .max))"
        try await withConnection(TestServer.direct) { holder in
            try await holder.script("create table \(table) (n int)")
            _ = try await holder.query("begin")
            _ = try await holder.query("lock table \(table) in access exclusive mode")
            try await withConnection(TestServer.direct) { connection in
                // If the deadline did not count, the server would end the wait, with another error.
                try await connection.script("set lock_timeout = '60s'")
                let error = try await failure {
                    try await connection.prepare("p", "select * from \(table)", timeout: .milliseconds(200))
                }
                #expect(error.code == .timedOut)
                #expect(try await connection.query("select 1")[0][0].int() == 1)
                #expect(!connection.isClosed)
            }
            try await holder.script("rollback")
            try await holder.script("drop table \(table)")
        }
    }

    @Test func `a deadline that has passed sends nothing`() async throws {
        try await withConnection(TestServer.direct) { connection in
            let error = try await failure { _ = try await connection.query("select 1", timeout: .zero) }
            #expect(error.code == .timedOut)
            #expect(error.message.contains("not sent"))
        }
    }

    @Test func `the server's own statement_timeout is the server's error`() async throws {
        try await withConnection(TestServer.direct) { connection in
            try await connection.script("set statement_timeout = 50")
            let error = try await failure { _ = try await connection.query("select pg_sleep(60)") }
            #expect(error.code == .server)
            #expect(error.sqlState == "57014")
        }
    }

    @Test func `with others in flight behind it, the connection is closed instead`() async throws {
        try await withConnection(TestServer.direct) { blocker in
            let connection = try await Connection.connect(TestServer.direct, logger: TestServer.silent)
            _ = try await blocker.query("select pg_advisory_lock(hashtext('behind'))")
            let head = Task { try await connection.query("select pg_advisory_lock(hashtext('behind'))") }
            try await eventually { try await isWaitingForLock(connection, asSeenBy: blocker) }
            let behind = Task.immediate { try await connection.query("select 'behind'") }
            await untilTaken(by: connection)
            head.cancel()
            #expect(try await failure { _ = try await head.value }.code == .cancelled)
            #expect(try await failure { _ = try await behind.value }.code == .connectionLost)
            #expect(await connection.waitUntilClosed().code == .connectionLost)
            // The server was asked to cancel the session's statement, so the session ends although the lock is never
            // released.
            try await eventually {
                try await blocker.query("select from pg_stat_activity where pid = $1", [.int4(connection.backendPID)])
                    .isEmpty
            }
        }
    }

    @Test func `one that is cancelled behind another does not disturb it`() async throws {
        try await withConnection(TestServer.direct) { blocker in
            try await withConnection(TestServer.direct) { connection in
                _ = try await blocker.query("select pg_advisory_lock(hashtext('ahead'))")
                async let head = connection.query("select pg_advisory_lock(hashtext('ahead')), 'done'")
                try await eventually { try await isWaitingForLock(connection, asSeenBy: blocker) }
                let behind = Task.immediate { try await connection.query("select pg_sleep(60)") }
                await untilTaken(by: connection)
                behind.cancel()
                #expect(try await failure { _ = try await behind.value }.code == .cancelled)
                _ = try await blocker.query("select pg_advisory_unlock(hashtext('ahead'))")
                #expect(try await head[0][1].string() == "done")
                // The statement was cancelled on the server when its turn came, well before its minute was over.
                #expect(try await connection.query("select 1", timeout: .seconds(10))[0][0].int() == 1)
            }
        }
    }

    @Test func `closing fails the calls that wait`() async throws {
        let connection = try await Connection.connect(TestServer.direct, logger: TestServer.silent)
        let call = Task.immediate { try await connection.query("select pg_sleep(60)") }
        await untilTaken(by: connection)
        await connection.close()
        #expect(try await failure { _ = try await call.value }.code == .connectionLost)
        #expect(connection.isClosed)
        #expect(try await failure { _ = try await connection.query("select 1") }.code == .connectionLost)
        await connection.close()
    }
}
