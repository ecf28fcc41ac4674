import BreakwaterSQL
import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

@Suite("A SQL handler", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct SQLHandlerTests {
    @Test("calls its function with the payload and the job, under its role, and keeps the result")
    func success() async throws {
        try await withSQLHandlers { sql in
            try await sql.function(
                "echo",
                "begin return jsonb_build_object('payload', payload, 'job', job, 'role', current_user); end"
            )
            try await sql.enqueue(#"{"amount": 5}"#)
            let handler = try sql.handler("echo") { $0.keepResults = .seconds(3600) }
            try await sql.database.withWorker([handler]) { try await sql.waitUntilDone() }
            let kept = try await sql.database.query(
                """
                select result ->> 'role', (result -> 'payload')::text, ((result -> 'job') - 'deadline' - 'enqueued_at')::text,
                       result -> 'job' ? 'deadline'
                  from breakwater.result
                """
            )
            let result = try #require(kept.first)
            #expect(try result[0].string() == sql.role)
            #expect(try result[1].string() == #"{"amount": 5}"#)
            #expect(
                try result[2].string()
                    == #"{"id": 1, "kind": "k", "queue": "default", "attempt": 1, "is_probe": false, "priority": 5, "#
                    + #""max_attempts": 1, "idempotency_key": "breakwater-1"}"#
            )
            #expect(try result[3].bool())
            #expect(try await sql.database.number("select sum(succeeded)::int8 from breakwater.tally") == 1)
            #expect(try await sql.database.claimsWithJobs() == 0)
        }
    }

    @Test(
        "accepts a function of the payload alone, and one of any result",
        arguments: ["void", "text", "app.ledger", "integer"]
    )
    func signatures(type: String) async throws {
        try await withSQLHandlers { sql in
            let result = ["void": "", "text": "'a'", "app.ledger": "row(1, 'r', 2)::app.ledger", "integer": "7"][type]!
            try await sql.database.query(
                """
                create function app.f(payload jsonb) returns \(type) language plpgsql as $$
                begin
                    insert into app.ledger (job) values (1);
                    return \(result);
                end $$
                """
            )
            try await sql.enqueue()
            let handler = try sql.handler("f") { $0.keepResults = .seconds(3600) }
            try await sql.database.withWorker([handler]) { try await sql.waitUntilDone() }
            #expect(try await sql.ledger().entries == 1)
            let kept = try await sql.database.text("select result::text from breakwater.result")
            let json = ["void": "null", "text": #""a""#, "integer": "7"][type]
            #expect(kept == json ?? #"{"job": 1, "role": "r", "transaction": 2}"#)
        }
    }

    @Test("keeps the beginning of a result that is too long, as a string")
    func longResult() async throws {
        try await withSQLHandlers { sql in
            try await sql.enqueue(#"{"a": "ä"}"#)
            try await sql.enqueue(#"{"a": "ää"}"#)
            let handler = try sql.handler("pay", maxResultBytes: 11) { $0.keepResults = .seconds(3600) }
            try await sql.database.withWorker([handler]) { try await sql.waitUntilDone() }
            let kept = try await sql.database.texts("select result::text from breakwater.result order by id")
            #expect(kept == [#"{"a": "ä"}"#, #""{\"a\": \"ää""#])
            #expect(try await sql.ledger() == (2, 2))
        }
    }

    @Test("counts the attempt of a function that raises the SQLSTATE of a shutdown", arguments: ["57P01", "57P02"])
    func falseShutdown(state: String) async throws {
        try await withSQLHandlers { sql in
            try await sql.function("f", "begin raise exception 'no' using errcode = '\(state)'; end")
            try await sql.enqueue()
            try await sql.database.withWorker([sql.handler("f")]) { try await sql.waitUntilDone() }
            #expect(try await sql.letters()[0].hasPrefix("exhausted|sql.\(state)|no\n"))
        }
    }

    @Test("settles each job in the transaction of its effects")
    func atomic() async throws {
        try await withSQLHandlers { sql in
            try await sql.enqueue(count: 300)
            try await sql.database.withWorker([sql.handler("pay")]) {
                try await waitUntil("all jobs have ended") {
                    // One snapshot shows each job either as waiting or in the ledger.
                    let seen = try await sql.database.query(
                        "select (select count(*) from breakwater.job), (select count(*) from app.ledger)"
                    )[0]
                    let (jobs, entries) = (try seen[0].int(), try seen[1].int())
                    #expect(jobs + entries == 300)
                    return jobs == 0
                }
            }
            #expect(try await sql.ledger() == (300, 300))
            #expect(try await sql.database.number("select last_value from app.run") == 300)
            #expect(try await sql.database.number("select count(distinct transaction) from app.ledger") == 300)
        }
    }

    @Test("settles no run twice, and counts each once")
    func settledOnce() async throws {
        try await withSQLHandlers { sql in
            try await sql.enqueue(count: 20)
            let log = RecordedLog()
            let handlers = [try sql.handler("pay") { $0.circuit.isEnabled = true }]
            try await sql.database.withLoggedWorker(handlers, log) {
                try await sql.waitUntilDone()
                try await waitUntil("the claims are closed") { try await sql.database.claimsWithJobs() == 0 }
            }
            #expect(!log.warnings.contains { $0.contains("no longer holds") })
            #expect(try await sql.database.number("select sum(succeeded)::int8 from breakwater.tally") == 20)
        }
    }

    @Test("undoes what its function did if the job was given to another run meanwhile")
    func stale() async throws {
        try await withSQLHandlers { sql in
            try await sql.function(
                "slow",
                """
                begin
                    perform app.pay(payload, job), pg_advisory_xact_lock(1);
                    return null;
                end
                """
            )
            let lock = try await sql.lock()
            try await sql.enqueue()
            try await sql.database.withWorker([sql.handler("slow")]) {
                try await waitUntil("it waits") {
                    try await sql.waitingCalls() == 1
                }
                // This is what a rescue does.
                let taken = try await sql.database.query(
                    "update breakwater.job j set lease = c.lease from breakwater.claim c where j.id = any (c.jobs)"
                )
                #expect(taken.affectedRows == 1)
                #expect(try await sql.ledger().entries == 0)
                _ = try await lock.query("select pg_advisory_unlock(1)")
                try await sql.waitUntilDone()
            }
            await lock.close()
            // The sequence is not undone.
            #expect(try await sql.database.number("select last_value from app.run") == 2)
            #expect(try await sql.ledger() == (1, 1))
        }
    }

    @Test("takes the outcome from the SQLSTATE, and undoes the effects of a call that fails")
    func states() async throws {
        try await withSQLHandlers { sql in
            try await sql.function(
                "fail",
                """
                begin
                    perform app.pay(payload, job);
                    raise exception using errcode = payload ->> 'state', message = 'no', detail = coalesce(payload ->> 'detail', '');
                end
                """
            )
            let states = [
                ("22012", "discarded|sql.22012"), ("23505", "discarded|sql.23505"), ("23503", "exhausted|sql.23503"),
                ("P0001", "exhausted|sql.P0001"), ("40001", "exhausted|sql.40001"), ("ZZ123", "discarded|sql.ZZ123"),
                ("42501", "exhausted|sql.42501"), ("53100", "exhausted|sql.53100"),
            ]
            for (state, _) in states { try await sql.enqueue(#"{"state": "\#(state)"}"#) }
            try await sql.enqueue(
                #"{"state": "BRKWT", "detail": "{\"outcome\": \"discard\", \"name\": \"account.closed\"}"}"#
            )
            let handler = try sql.handler("fail", discardOn: ["ZZ"], retryOn: ["23503"])
            try await sql.database.withWorker([handler]) { try await sql.waitUntilDone() }
            let letters = try await sql.letters().map { $0.split(separator: "|").prefix(2).joined(separator: "|") }
            #expect(letters == states.map(\.1) + ["discarded|account.closed"])
            #expect(try await sql.letters()[0].hasPrefix("discarded|sql.22012|no\n"))
            #expect(try await sql.ledger().entries == 0)
            #expect(try await sql.database.number("select last_value from app.run") == 9)
        }
    }

    @Test("snoozes a job whose function says so, without spending an attempt")
    func snooze() async throws {
        try await withSQLHandlers { sql in
            try await sql.function(
                "later",
                """
                begin
                    raise exception 'not now' using errcode = 'BRKWT', detail = '{"outcome": "snooze", "seconds": 3600}';
                end
                """
            )
            try await sql.enqueue()
            try await sql.database.withWorker([sql.handler("later")]) {
                try await waitUntil("it is snoozed") {
                    try await sql.database.number(
                        "select count(*) from breakwater.job where run_at > now() + interval '30 min' and attempt = 0"
                    ) == 1
                }
            }
        }
    }

    @Test("discards a job for a deferred constraint, which is checked before the settle")
    func deferred() async throws {
        try await withSQLHandlers { sql in
            try await sql.database.connection.script(
                """
                create table app.account (id int primary key);
                create table app.payment (account int references app.account deferrable initially deferred);
                grant insert on app.payment to \(sql.role);
                """
            )
            try await sql.function("f", "begin insert into app.payment values (1); return null; end")
            try await sql.enqueue()
            try await sql.database.withWorker([sql.handler("f")]) { try await sql.waitUntilDone() }
            #expect(try await sql.letters()[0].hasPrefix("discarded|sql.23503|"))
        }
    }

    @Test("ends a function that runs for too long, and its statement")
    func timeout() async throws {
        try await withSQLHandlers { sql in
            try await sql.function(
                "hang",
                "begin perform app.pay(payload, job), pg_advisory_xact_lock(1); return null; end"
            )
            let lock = try await sql.lock()
            try await sql.enqueue()
            let handler = try sql.handler("hang") { $0.timeout = .milliseconds(500) }
            try await sql.database.withWorker([handler]) { try await sql.waitUntilDone() }
            #expect(try await sql.letters()[0].hasPrefix("exhausted|timeout|"))
            #expect(try await sql.ledger().entries == 0)
            try await waitUntil("the statement ends") { try await hanging(sql) == 0 }
            await lock.close()
        }
    }

    @Test("ends a function whose job a user cancels")
    func cancel() async throws {
        try await withSQLHandlers { sql in
            try await sql.function("hang", "begin perform pg_advisory_xact_lock(1); return null; end")
            let lock = try await sql.lock()
            try await sql.enqueue()
            try await sql.database.withWorker([sql.handler("hang") { $0.timeout = .seconds(3000) }]) {
                try await waitUntil("it runs") { try await hanging(sql) == 1 }
                try await sql.database.query("select breakwater.cancel(1, 'wrong file', 'ann')")
                try await sql.waitUntilDone()
                try await waitUntil("the statement ends") { try await hanging(sql) == 0 }
            }
            #expect(try await sql.letters()[0].hasPrefix("cancelled|"))
            await lock.close()
        }
    }

    @Test("ends a function at a shutdown without spending an attempt, even if the function resists")
    func shutdown() async throws {
        try await withSQLHandlers { sql in
            // A function can catch the cancellation of its statement.
            try await sql.function(
                "resist",
                """
                begin
                    loop
                        begin
                            perform pg_advisory_xact_lock(1);
                            return null;
                        exception when query_canceled then null;
                        end;
                    end loop;
                end
                """
            )
            try await sql.enqueue()
            let lock = try await sql.lock()
            let handler = try sql.handler("resist") { $0.timeout = .seconds(3000) }
            try await sql.database.withWorker([handler], configure: { $0.shutdownGrace = .zero }) {
                try await waitUntil("it runs") { try await hanging(sql) == 1 }
            }
            #expect(try await sql.database.number("select count(*) from breakwater.job where attempt = 0") == 1)
            try await waitUntil("the session ends") { try await hanging(sql) == 0 }
            await lock.close()
        }
    }

    /// How many sessions call a function.
    private func hanging(_ sql: SQLHandlerDatabase) async throws -> Int {
        try await sql.database.number(
            """
            select count(*) from pg_stat_activity
             where datname = current_database() and state = 'active' and query like '%pg_temp.breakwater_call%'
               and pid <> pg_backend_pid()
            """
        )
    }

    @Test("never has more sessions than its connections, and uses all of them")
    func connections() async throws {
        try await withSQLHandlers { sql in
            try await sql.function("wait", "begin perform pg_advisory_xact_lock_shared(1); return null; end")
            let lock = try await sql.lock()
            try await sql.enqueue(count: 40)
            let handler = try sql.handler("wait", connections: 3) { $0.concurrency = 10 }
            try await sql.database.withWorker([handler]) {
                try await waitUntil("three calls wait") {
                    try await sql.waitingCalls() == 3
                }
                #expect(
                    try await sql.database.number(
                        """
                        select count(*) from pg_stat_activity
                         where datname = current_database() and application_name = 'breakwater sql'
                        """
                    ) == 3
                )
                _ = try await lock.query("select pg_advisory_unlock(1)")
                try await sql.waitUntilDone()
            }
            await lock.close()
        }
    }

    @Test("closes its circuit again when probes succeed, with a circuit for each key")
    func circuit() async throws {
        try await withSQLHandlers { sql in
            try await sql.database.connection.script(
                "create table app.broken (host text); insert into app.broken values ('a'); "
                    + "grant select on app.broken to public"
            )
            try await sql.function(
                "f",
                """
                begin
                    if exists (select from app.broken where host = payload ->> 'host') then
                        raise exception 'down' using errcode = 'BRKWT', detail = '{"outcome": "unavailable"}';
                    end if;
                    return app.pay(payload, job);
                end
                """
            )
            let handler = try sql.handler("f") {
                $0.retry.maxAttempts = 100
                $0.retry.base = .milliseconds(10)
                $0.circuit.isEnabled = true
                $0.circuit.key = .path(["host"])
                $0.circuit.consecutiveFailures = 3
                $0.circuit.openFor = .milliseconds(100)
            }
            try await sql.enqueue(#"{"host": "a"}"#, count: 20)
            try await sql.enqueue(#"{"host": "b"}"#, count: 20)
            try await sql.database.withWorker([handler]) {
                try await waitUntil("the circuit is open, and the other key's jobs have ended") {
                    let open = try await sql.database.texts(
                        "select key from breakwater.circuit where state <> 'closed'"
                    )
                    let entries = try await sql.ledger().entries
                    return open == ["a"] && entries == 20
                }
                try await sql.database.query("delete from app.broken")
                try await sql.waitUntilDone()
                try await waitUntil("the circuit closes") {
                    try await sql.database.number("select count(*) from breakwater.circuit where state <> 'closed'")
                        == 0
                }
            }
            #expect(try await sql.ledger() == (40, 40))
            #expect(try await sql.database.count("probe") == 0)
        }
    }

    @Test("lets a job wait for others, and writes the history")
    func dependants() async throws {
        try await withSQLHandlers { sql in
            try await sql.database.query(
                "select breakwater.enqueue('k', '1', after => array[breakwater.enqueue('k', '2')])"
            )
            let handler = try sql.handler("pay") {
                $0.history = JobHistory(keep: .seconds(3600))
            }
            try await sql.database.withWorker([handler]) {
                try await waitUntil("both are in the history") { try await sql.database.count("finished_job") == 2 }
            }
            #expect(try await sql.ledger() == (2, 2))
        }
    }
}
