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
    @Test("tell where a job stands, why, and what went wrong so far")
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

    @Test("say how many jobs are before one, who could run it, and who of these may not")
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
            // One that runs, one of another kind, and one that is due later are not before it.
            try await database.query(
                """
                insert into breakwater.job (kind, priority, worker, run_at, crashes, traceparent)
                values ('hook', 5, 3, null, 0, null), ('other', 5, null, null, 0, null),
                       ('hook', 5, null, now() + interval '1 day', 0, null), ('hook', 5, null, null, 0, null),
                       ('hook', 5, null, null, 2, '00-trace'), ('hook', 0, null, null, 0, null)
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

    @Test("find dead letters and results, and say when nothing is known")
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

    @Test("cancel what waits, and leave alone what runs")
    func cancel() async throws {
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind) select 'hook' from generate_series(1, 3)")
            try await database.query("update breakwater.job set worker = 1, lease = 1 where id = 2")
            let ending = try await database.worker("cancel", "1", "2", "9", "3")
            #expect(ending.status == 1)
            #expect(ending.output == "Job 1 is cancelled.\nJob 3 is cancelled.\n")
            #expect(ending.errors.contains("job 2 is not cancelled: it is running on worker 1"), "\(ending.errors)")
            #expect(ending.errors.contains("nothing is known of a job 9"))
            let again = try await database.worker("cancel", "1")
            #expect(again.errors.contains("it is a dead letter already: cancelled"))
            #expect(try await database.number("select count(*) from breakwater.dead_letter") == 2)
        }
    }

    @Test("make ready what waits for its time")
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
