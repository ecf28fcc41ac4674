import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import WorkerCommand

@Suite(
    "On a database, the commands for single jobs",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct JobCommandTests {
    @Test("show the state of a job, the reason for it, and the errors so far")
    func waiting() async throws {
        try await withTestDatabase { database in
            try await database.query(
                """
                insert into breakwater.job (kind, payload, attempt, run_at, errors)
                values ('hook', '{"n": 7}', 2, now() + interval '1 hour',
                        '[{"attempt": 1, "class": "failed", "name": "http.500", "message": "it broke",
                           "at": "2030-01-31T08:00:00+01:00", "worker": 77},
                          {"attempt": 2, "class": "unavailable", "name": "http.503", "message": "down"}]')
                """
            )
            let shown = try await database.worker("job", "1")
            for part in [
                "retrying", "runs again at", #"{"n": 7}"#, "FAILED RUNS", "http.500: it broke",
                "2030-01-31 07:00:00Z", "unavailable", "http.503: down", "77",
            ] {
                #expect(shown.output.contains(part), "\(part) is missing in\n\(shown.output)\(shown.errors)")
            }
            let json: [String: Any] = try await database.worker("job", "1", "--json").json()
            #expect(json["state"] as? String == "retrying")
            #expect(json["payload"] as? [String: Int] == ["n": 7])
            #expect((json["errors"] as? [Any])?.count == 2)
        }
    }

    @Test("say how many jobs come before one, which workers could run it, and which of these may not")
    func place() async throws {
        try await withTestDatabase { database in
            try await database.query(
                """
                insert into breakwater.worker (name, version, queues, kinds, concurrency, lease, state)
                select 'w' || n, '1', '{default}', '{hook}', 1, '1h', case n when 1 then 'draining' else 'running' end
                  from generate_series(1, 3) n
                """
            )
            try await database.query(
                "insert into breakwater.suspension (kind, key, worker, since, until, reason) "
                    + "values ('hook', '', 2, now(), now() + interval '1 hour', 'a test')"
            )
            // A running job, a job of another kind and a job that is due later do not come before it.
            try await database.query(
                """
                insert into breakwater.job (kind, priority, run_at, crashes, traceparent)
                values ('hook', 5, null, 0, null), ('other', 5, null, 0, null),
                       ('hook', 5, now() + interval '1 day', 0, null), ('hook', 5, null, 0, null),
                       ('hook', 5, null, 2, '00-trace'), ('hook', 0, null, 0, null)
                """
            )
            try await database.query(
                """
                insert into breakwater.claim (lease, worker, last, floor, jobs)
                values (nextval('breakwater.lease'), 3, 0, 0, '{1}')
                """
            )
            let text = try await database.worker("job", "5")
            for part in [
                "2 jobs of its queue and kind", "3 alive, 1 suspended, 1 draining", "2 times in a row", "00-trace",
            ] {
                #expect(text.output.contains(part), "\(part) is missing in\n\(text.output)\(text.errors)")
            }
            let json: [String: Any] = try await database.worker("job", "5", "--json").json()
            #expect(json["ahead"] as? Int == 2)
            #expect(json["workers_suspended"] as? Int == 1)
            #expect(json["ready_at"] is String)
        }
    }

    @Test("find dead letters and results, and say when a job is unknown")
    func ended() async throws {
        try await withTestDatabase { database in
            try await database.bury(5...5, kind: "hook")
            let dead = try await database.worker("job", "5")
            #expect(dead.output.contains("dead letter"))
            #expect(dead.output.contains("worker dead-letters redrive 5"))
            #expect(
                try await database.worker("job", "5", "--json").json(as: [String: Any].self)["state"] as? String
                    == "dead_letter"
            )
            try await database.query(
                """
                insert into breakwater.result (id, kind, result, by_fallback, expires_at)
                values (6, 'hook', '[1]', true, now() + interval '1 hour')
                """
            )
            let succeeded: [String: Any] = try await database.worker("job", "6", "--json").json()
            #expect(succeeded["state"] as? String == "succeeded")
            #expect(succeeded["result"] as? [Int] == [1])
            #expect(try await database.worker("job", "6").output.contains("by its circuit's fallback"))
            let missing = try await database.worker("job", "7")
            #expect(missing.status == 1)
            #expect(missing.errors.contains("nothing is known of a job 7"))
        }
    }

    /// Lets a worker of the name `w` claim a job.
    private func hold(_ job: Int64, in database: TestDatabase) async throws {
        try await database.query(
            """
            insert into breakwater.worker (id, name, version, queues, kinds, concurrency, lease, beat_at)
            overriding system value values (1, 'w', '1', '{default}', '{other}', 1, '1 hour', now())
            """
        )
        try await database.query(
            "insert into breakwater.claim (lease, worker, last, floor, jobs) values (1, 1, 0, 0, array[$1])",
            [.int8(job)]
        )
    }

    @Test("cancel waiting jobs, and ask the workers of running ones")
    func cancel() async throws {
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind) select 'hook' from generate_series(1, 3)")
            try await hold(2, in: database)
            let ending = try await database.worker("cancel", "1", "2", "9", "3")
            #expect(ending.status == 1)
            #expect(
                ending.output == """
                    Job 1 is cancelled.
                    Job 2 runs; its worker was asked to cancel it.
                    Job 3 is cancelled.

                    """
            )
            let story = try await database.worker("job", "2")
            #expect(story.output.contains("; the run is to end"), "\(story.output)")
            #expect(ending.errors.contains("nothing is known of a job 9"))
            let again = try await database.worker("cancel", "1")
            #expect(again.errors.contains("it is a dead letter already: cancelled"))
            #expect(try await database.number("select count(*) from breakwater.dead_letter") == 2)
        }
    }

    @Test("make scheduled jobs ready")
    func runNow() async throws {
        try await withTestDatabase { database in
            try await database.query("select breakwater.enqueue('hook', run_at => now() + interval '1 day')")
            let first: [String: Any] = try await database.worker("run-now", "1", "--json").json()
            #expect(first["changed"] as? [Int] == [1])
            let second = try await database.worker("run-now", "1")
            #expect(second.status == 1)
            #expect(second.errors.contains("it does not wait for its time: it is no_handler"), "\(second.errors)")
            try await database.bury(5...5, kind: "hook")
            #expect(try await database.worker("run-now", "5").errors.contains("worker dead-letters redrive 5"))
        }
    }

    @Test("give waiting jobs another priority, and leave running jobs alone")
    func setPriority() async throws {
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind) select 'hook' from generate_series(1, 3)")
            try await hold(2, in: database)
            let ending = try await database.worker("set-priority", "1", "2", "3", "--to", "0")
            #expect(ending.status == 1)
            #expect(ending.output == "Job 1 is of priority 0.\nJob 3 is of priority 0.\n")
            #expect(ending.errors.contains("job 2 is not of priority 0: it is running on w since"))
            #expect(
                try await database.query("select id from breakwater.job where priority = 0 order by position")
                    .map { try $0[0].int64() } == [1, 3]
            )
            try await database.bury(5...5, kind: "hook")
            let dead = try await database.worker("set-priority", "5", "--to", "0")
            #expect(dead.errors.contains("worker dead-letters redrive 5"))
        }
    }

    @Test("drain workers by name or number, and let them claim again")
    func drain() async throws {
        try await withTestDatabase { database in
            try await database.query(
                """
                insert into breakwater.worker (id, name, version, queues, kinds, concurrency, lease, beat_at)
                overriding system value
                select id, name, '1', '{default}', '{hook}', 1, '1 hour', now()
                  from (values (7, 'alpha'), (8, 'alpha'), (9, '7'), (10, 'beta')) w(id, name)
                """
            )
            func drained() async throws -> [Int64] {
                try await database.query("select id from breakwater.worker where drain_reason = 'r' order by id")
                    .map { try $0[0].int64() }
            }
            let named = try await database.worker("drain", "alpha", "8", "--reason", "r", "--actor", "ada")
            #expect(named.status == 0, "\(named.errors)")
            #expect(
                named.output == """
                    Worker 7 (alpha) drains: it claims nothing more.
                    Worker 8 (alpha) drains: it claims nothing more.

                    """
            )
            #expect(try await drained() == [7, 8])
            let status = try await database.worker("status")
            #expect(status.output.contains("Worker 7 (alpha) is drained: r"))
            let json: [String: Any] = try await database.worker("status", "--json").json()
            #expect((json["workers"] as? [[String: Any]])?.first?["drain_reason"] as? String == "r")

            // A worker's name takes precedence over a number.
            let numbered: [String: Any] = try await database.worker("drain", "7", "10", "--reason", "r", "--json")
                .json()
            #expect(numbered["changed"] as? [Int] == [9, 10])

            let back = try await database.worker("undrain", "alpha", "gamma", "--reason", "moved")
            #expect(back.status == 1)
            #expect(back.output == "Worker 7 (alpha) claims again.\nWorker 8 (alpha) claims again.\n")
            #expect(back.errors.contains("there is no worker 'gamma'.\nRun: worker status"), "\(back.errors)")
            #expect(try await drained() == [9, 10])
            let again = try await database.worker("undrain", "8")
            #expect(again.status == 1)
            #expect(again.errors.contains("Worker 8 (alpha) is not drained."), "\(again.errors)")
        }
    }

    @Test("rename a kind, say how many jobs that changed, and leave running jobs alone")
    func renameKind() async throws {
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind) select 'hook' from generate_series(1, 3)")
            try await database.bury(5...5, kind: "hook")
            try await hold(2, in: database)
            let ending = try await database.worker(
                "rename-kind",
                "hook",
                "web.hook",
                "--reason",
                "new name",
                "--actor",
                "ann"
            )
            #expect(ending.status == 1)
            #expect(ending.output == "2 jobs and 1 dead letters of hook are of the kind web.hook now.\n")
            #expect(ending.errors.contains("1 jobs of hook run now and are left"), "\(ending.errors)")
            #expect(ending.errors.contains("No worker takes the kind web.hook now"))
            let line = "select concat_ws(' ', actor, action, target, reason, details) from breakwater.audit"
            #expect(
                try await database.text(line)
                    == #"ann kind.rename hook new name {"to": "web.hook", "jobs": 2, "dead_letters": 1}"#
            )
            try await database.query("delete from breakwater.claim")
            let last = try await database.worker("rename-kind", "hook", "web.hook", "--json")
            #expect(last.status == 0, "\(last.errors)")
            let json: [String: Any] = try last.json()
            #expect(json["jobs"] as? Int == 1 && json["dead_letters"] as? Int == 0 && json["busy"] as? Int == 0)
        }
    }

    @Test("record in the audit log who did it, and why")
    func audit() async throws {
        try await withTestDatabase { database in
            try await database.query(
                """
                insert into breakwater.job (kind, run_at)
                select 'hook', now() + interval '1 day' from generate_series(1, 3)
                """
            )
            try await database.bury(5...9, kind: "hook")
            for command in [
                ["run-now", "1"], ["set-priority", "1", "--to", "0"], ["cancel", "1"],
                ["dead-letters", "redrive", "5"],
                ["dead-letters", "purge", "6"], ["dead-letters", "redrive", "--kind", "hook", "--limit", "1"],
            ] {
                let said = try await WorkerBinary.run(
                    command + ["--reason", "w", "--actor", "ada"],
                    environment: ["DATABASE_URL": database.url]
                )
                #expect(said.status == 0, "\(command): \(said.errors)")
                let silent = try await WorkerBinary.run(
                    command.map { ["1": "2", "5": "7", "6": "8"][$0] ?? $0 },
                    environment: ["DATABASE_URL": database.url]
                )
                #expect(silent.status == 0, "\(command): \(silent.errors)")
                let lines = try await database.query(
                    "select actor, coalesce(reason, '-') from breakwater.audit order by id desc limit 2"
                ).map { try "\($0[0].string()) \($0[1].string())" }
                #expect(lines == ["\(NSUserName()) -", "ada w"], "\(command)")
            }
        }
    }

    @Test("pause and resume a queue and a kind", arguments: ["queue", "kind"])
    func pause(scope: String) async throws {
        try await withTestDatabase { database in
            let paused = try await database.worker("pause", "--\(scope)", "bulk", "--reason", "r", "--actor", "ada")
            #expect(paused.output == "The \(scope) 'bulk' is paused.\n", "\(paused.errors)")
            #expect(paused.errors.contains("No worker takes the \(scope) 'bulk' now"))
            let pause = try await database.query("select scope, name, reason, actor from breakwater.pause")[0]
            #expect(try (0..<4).map { try pause[$0].string() } == [scope, "bulk", "r", "ada"])
            let resumed: [String: Any] = try await database.worker("resume", "--\(scope)", "bulk", "--json").json()
            #expect(resumed["paused"] as? Bool == false)
            let again = try await database.worker("resume", "--\(scope)", "bulk")
            #expect(again.status == 1)
            #expect(again.errors.contains("the \(scope) 'bulk' is not paused"))
        }
    }
}
