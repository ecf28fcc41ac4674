import Libpq
import Testing

@Suite("Answers that come in two steps", .enabled(if: TestServer.isThere, TestServer.reason))
struct AnswerTests {
    /// Runs the body with a connection and a table. Changes of the table are committed only while no other session
    /// holds the lock of this name, and never if one of them is a negative number.
    private func withTable(
        _ lock: String,
        _ body: (Connection, _ blocker: Connection) async throws -> Void
    ) async throws {
        try await withConnection(TestServer.direct) { blocker in
            try await withConnection(TestServer.direct) { connection in
                try await connection.script(
                    """
                    create temp table t (n int);
                    create function pg_temp.at_commit() returns trigger language plpgsql as $$ begin
                        perform pg_advisory_xact_lock(hashtext('\(lock)'));
                        if new.n < 0 then raise 'negative'; end if;
                        return null;
                    end $$;
                    create constraint trigger at_commit after insert on t deferrable initially deferred
                        for each row execute function pg_temp.at_commit()
                    """
                )
                try await body(connection, blocker)
            }
        }
    }

    private let insert = "insert into t values ($1::int4) returning n"

    @Test func `results come while the transaction is being committed, and other calls can follow`() async throws {
        try await withTable("two steps") { connection, blocker in
            _ = try await blocker.query("select pg_advisory_lock(hashtext('two steps'))")
            let answer = try await connection.send([Statement(insert, [.int4(7)])], resultsFirst: true)
            #expect(try await answer.results()[0][0][0].int() == 7)
            let next = try await connection.send([Statement("select count(*) from t")], resultsFirst: true)
            try await eventually { try await isWaitingForLock(connection, asSeenBy: blocker) }
            _ = try await blocker.query("select pg_advisory_unlock(hashtext('two steps'))")
            #expect(try await answer.end()[0][0][0].int() == 7)
            #expect(try await next.results()[0][0][0].int() == 1)
            try await next.end()
        }
    }

    @Test func `results that are not asked for first come with the end`() async throws {
        try await withTable("one step") { connection, blocker in
            _ = try await blocker.query("select pg_advisory_lock(hashtext('one step'))")
            let answer = try await connection.send([Statement(insert, [.int4(7)])], resultsFirst: false)
            try await eventually { try await isWaitingForLock(connection, asSeenBy: blocker) }
            async let unlocked = blocker.query("select pg_advisory_unlock(hashtext('one step')) from pg_sleep(0.2)")
            #expect(try await answer.results()[0][0][0].int() == 7)
            #expect(try await connection.query("select count(*) from t")[0][0].int() == 1)
            _ = try await unlocked
        }
    }

    @Test func `a commit that fails is the end's error, after the results`() async throws {
        try await withTable("refused") { connection, _ in
            let answer = try await connection.send([Statement(insert, [.int4(-1)])], resultsFirst: true)
            let error = try await failure { try await answer.end() }
            #expect(error.message == "negative")
            #expect(error.statement == nil)
            let batch = [Statement(insert, [.int4(-1)]), Statement("select 1")]
            #expect(try await failure { _ = try await connection.pipeline(batch) }.message == "negative")
            #expect(try await connection.query("select count(*) from t")[0][0].int() == 0)
        }
    }

    @Test func `a statement that fails ends both steps`() async throws {
        try await withConnection(TestServer.direct) { connection in
            let statements = [Statement("select 1"), Statement("select 1 / 0")]
            let answer = try await connection.send(statements, resultsFirst: true)
            #expect(try await failure { _ = try await answer.results() }.statement == 1)
            #expect(try await failure { try await answer.end() }.sqlState == "22012")
            let invalid = try await failure { _ = try await connection.send([Statement("\0")], resultsFirst: true) }
            #expect(invalid.statement == 0)
        }
    }

    @Test func `who is cancelled while it waits for the commit cancels that`() async throws {
        try await withTable("cancelled") { connection, blocker in
            _ = try await blocker.query("select pg_advisory_lock(hashtext('cancelled'))")
            let answer = try await connection.send([Statement(insert, [.int4(7)])], resultsFirst: true)
            _ = try await answer.results()
            let task = Task { try await answer.end() }
            task.cancel()
            #expect(try await failure { _ = try await task.value }.code == .cancelled)
            #expect(try await connection.query("select count(*) from t")[0][0].int() == 0)
        }
    }

    @Test func `the end of the connection is the end of every answer`() async throws {
        let connection = try await Connection.connect(TestServer.direct, logger: TestServer.silent)
        let answer = try await connection.send([Statement("select pg_sleep(60)")], resultsFirst: true)
        await connection.close()
        #expect(try await failure { _ = try await answer.results() }.code == .connectionLost)
        let late = try await connection.send([Statement("select 1")], resultsFirst: true)
        #expect(try await failure { try await late.end() }.code == .connectionLost)
    }
}
