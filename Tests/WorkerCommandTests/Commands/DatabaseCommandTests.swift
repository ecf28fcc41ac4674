import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import WorkerCommand

@Suite(
    "On a database, the program worker",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct DatabaseCommandTests {
    @Test("migrates once, and says so the second time")
    func migrate() async throws {
        try await withTestDatabase(isMigrated: false) { database in
            let missing = try await database.worker("status")
            #expect(missing.status == 78)
            #expect(missing.errors.contains("worker migrate"))
            let first = try await database.worker("migrate")
            #expect(first.status == 0, "\(first.errors)")
            #expect(first.output.hasPrefix("Applied 0001_initial"))
            #expect(try await database.worker("migrate").output.hasPrefix("The schema is up to date"))
            let third: [String: Any] = try await database.worker("migrate", "--json").json()
            #expect((third["applied"] as? [String]) == [])
        }
    }

    @Test("repairs sequences that are behind their rows when it migrates, and says so")
    func repairsSequences() async throws {
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind) select 'k' from generate_series(1, 5)")
            try await database.query("select setval('breakwater.job_id_seq', 2)")
            let output = try await database.worker("migrate").output
            #expect(
                output.contains("The sequence breakwater.job_id_seq stood at 2, behind its rows: it goes on after 5."),
                "\(output)"
            )
            try await database.query("select setval('breakwater.job_id_seq', 3)")
            let json: [String: Any] = try await database.worker("migrate", "--json").json()
            let repairs = try #require(json["repaired_sequences"] as? [[String: Any]])
            #expect(repairs.count == 1)
            #expect(repairs.first?["goes_on_after"] as? Int == 5)
            #expect(try await database.worker("migrate").output.split(separator: "\n").count == 1)
        }
    }

    @Test("gives up soon on a lock that another session has, changes nothing, and says what to do")
    func lockedMigration() async throws {
        try await withTestDatabase(isMigrated: false) { database in
            // This transaction makes the schema, so another session that makes it has to wait.
            try await database.query("begin")
            try await database.query("create schema breakwater")
            let refused = try await database.worker("migrate", "--lock-timeout", "200ms")
            #expect(refused.status == 69)
            #expect(refused.errors.contains("a lock was not given in time"), "\(refused.errors)")
            try await database.query("rollback")
            #expect(try await database.worker("migrate", "--lock-timeout", "200ms").status == 0)
        }
    }

    @Test("status names the session that holds up the others, and shows what it can")
    func lockWaits() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let holder = try await database.connectDirectly()
            let pid = try await holder.query("select pg_backend_pid()")[0][0].int()
            _ = try await holder.query("begin")
            _ = try await holder.query("insert into breakwater.job (kind, unique_key) values ('k', 'u')")
            let other = try await database.connectDirectly()
            async let waiting = other.query(
                "insert into breakwater.job (kind, unique_key) values ('k', 'u') on conflict do nothing"
            )
            try await waitUntil("status says so") {
                try await database.worker("status").output.contains(
                    "1 session waits for a lock on Breakwater's tables that is held by session \(pid) of the user"
                )
            }
            let json: [String: Any] = try await database.worker("status", "--json").json()
            let waits = try #require(json["lock_waits"] as? [[String: Any]])
            #expect(waits.first?["pid"] as? Int == pid)
            _ = try await holder.query("rollback")
            _ = try await waiting

            _ = try await holder.query("begin")
            _ = try await holder.query("lock table breakwater.job in access exclusive mode")
            let refused = try await database.worker("status")
            #expect(refused.status == 69)
            #expect(refused.errors.contains("held by session \(pid) of the user"), "\(refused.errors)")
            await holder.close()
            await other.close()
        }
    }

    @Test("status shows a hundred kinds, says how many there are, and lists all of them with --json")
    func manyKinds() async throws {
        try await withTestDatabase { database in
            try await database.query(
                "insert into breakwater.job (kind) select 'kind.' || n from generate_series(1, 150) n"
            )
            let output = try await database.worker("status").output
            #expect(output.split(separator: "\n").count { $0.hasPrefix("default ") } == 100)
            #expect(output.contains("JOBS shows the first 100 of 150 rows; --json has all of them."), "\(output)")
            let json: [String: Any] = try await database.worker("status", "--json").json()
            #expect((json["jobs"] as? [Any])?.count == 150)
        }
    }

    @Test("refuses to run without a schema, with 78")
    func runWithoutSchema() async throws {
        try await withTestDatabase(isMigrated: false) { database in
            try await withFile("handlers: { a: { exec: { command: [cat] } } }") { path in
                let ending = try await database.worker("run", "--config", path)
                #expect(ending.status == 78, "\(ending.errors)")
                #expect(ending.errors.contains("worker migrate"))
            }
        }
    }

    @Test("enqueues jobs and prints their ids")
    func enqueue() async throws {
        try await withTestDatabase { database in
            let plain = try await database.worker("enqueue", "email.send", #"{"to": "a@b.c"}"#)
            #expect(plain.output == "1\n", "\(plain.errors)")
            let full = try await database.worker(
                "enqueue",
                "report",
                "-",
                "--queue",
                "bulk",
                "--priority",
                "0",
                "--in",
                "1h",
                "--max-attempts",
                "3",
                "--unique-key",
                "k",
                "--json",
                input: "[1, 2]"
            )
            #expect(try full.json(as: [String: Int].self) == ["id": 2])
            #expect(try await database.worker("enqueue", "report", "--unique-key", "k").output == "2\n")
            let row = try await database.query(
                """
                select queue, priority, max_attempts, payload, run_at > now() + interval '59 minutes' as waits
                  from breakwater.job where id = 2
                """
            )[0]
            #expect(try row["queue"].string() == "bulk")
            #expect(try row["priority"].int() == 0)
            #expect(try row["max_attempts"].int() == 3)
            #expect(try row["payload"].string() == "[1, 2]")
            #expect(try row["waits"].bool())
        }
    }

    @Test("refuses values that Postgres cannot store, with 64")
    func refusedPayload() async throws {
        try await withTestDatabase { database in
            let ending = try await database.worker("enqueue", "email.send", #"{"to": "\u0000"}"#)
            #expect(ending.status == 64, "\(ending.errors)")
        }
    }

    @Test("exits with 77 when the user lacks a privilege")
    func permission() async throws {
        try await withTestDatabase { database in
            try await database.withRole("breakwater_enqueue") { url in
                let status = try await WorkerBinary.run(["status", "--database", url])
                #expect(status.status == 77, "\(status.errors)")
                let enqueue = try await WorkerBinary.run(["enqueue", "k", "--database", url])
                #expect(enqueue.status == 0, "\(enqueue.errors)")
            }
        }
    }

    @Test("shows depth, age, and kinds that no worker handles")
    func status() async throws {
        try await withTestDatabase { database in
            let empty = try await database.worker("status")
            #expect(empty.output == "There are no jobs.\nThere are no workers.\n")
            try await database.query("insert into breakwater.job (kind) select 'email.send' from generate_series(1, 3)")
            try await database.query("select breakwater.enqueue('later', run_at => now() + interval '1 hour')")
            try await database.query("select breakwater.pause_queue('default', 'a break', 'ada')")
            try await database.makeCircuit(kind: "email.send")
            try await database.query("select breakwater.open_circuit('email.send', 'no mail today')")
            try await database.bury(100...101, kind: "email.send")
            let text = try await database.worker("status")
            #expect(text.status == 0, "\(text.errors)")
            for part in [
                "JOBS", "CIRCUITS NOT CLOSED", "PAUSED", "DEAD LETTERS", "a break", "no mail today", "open, paused",
                "No worker that is alive handles 'email.send' in the queue 'default': 3 jobs wait.",
                "No worker that is alive handles 'later' in the queue 'default': 1 job waits.",
            ] {
                #expect(text.output.contains(part), "\(part) is missing in\n\(text.output)")
            }
            let status: [String: Any] = try await database.worker("status", "--json").json()
            let jobs = try #require(status["jobs"] as? [[String: Any]])
            #expect(jobs.map { $0["ready"] as? Int } == [3, 0])
            #expect(jobs.map { $0["scheduled"] as? Int } == [0, 1])
            #expect((status["unhandled"] as? [[String: String]])?.count == 2)
            #expect((status["dead_letters"] as? [[String: Any]])?.first?["count"] as? Int == 2)
        }
    }

    @Test("lists dead letters without their large payloads; show has them")
    func largePayloads() async throws {
        try await withTestDatabase { database in
            try await database.bury(1...2, kind: "k")
            try await database.query(
                """
                update breakwater.dead_letter
                   set payload = (select to_jsonb(string_agg(md5(n::text), '')) from generate_series(1, 1000) n)
                 where id = 1
                """
            )
            let list: [[String: Any]] = try await database.worker("dead-letters", "--json").json()
            #expect(list.count == 2)
            for letter in list {
                let isLeftOut = letter["payload"] is NSNull
                #expect(isLeftOut == (letter["id"] as? Int == 1))
            }
            let shown: [String: Any] = try await database.worker("dead-letters", "show", "1", "--json").json()
            #expect((shown["payload"] as? String)?.utf8.count == 32_000)
        }
    }

    @Test("lists, shows, redrives and purges dead letters")
    func deadLetters() async throws {
        try await withTestDatabase { database in
            #expect(try await database.worker("dead-letters").output == "There are no dead letters.\n")
            try await database.bury(1...3, kind: "email.send")
            try await database.bury(4...6, kind: "hook", reason: "discarded")

            let list = try await database.worker("dead-letters", "--kind", "hook")
            #expect(list.output.split(separator: "\n").count == 4)
            #expect(list.output.contains("http.500: it broke"))
            let limited: [[String: Any]] = try await database.worker("dead-letters", "--limit", "2", "--json").json()
            #expect(limited.count == 2)
            let shown: [String: Any] = try await database.worker("dead-letters", "show", "4", "--json").json()
            #expect(shown["payload"] as? [String: Int] == ["n": 1])
            #expect((shown["errors"] as? [[String: Any]])?.count == 2)
            #expect(try await database.worker("dead-letters", "show", "77").status == 1)

            let two = try await database.worker("dead-letters", "redrive", "1", "77", "2")
            #expect(two.status == 1)
            #expect(two.output == "2 dead letters were put back.\n")
            #expect(two.errors.contains("there is no dead letter with the id 77"))
            let byReason = try await database.worker("dead-letters", "redrive", "--died-of", "exhausted", "--json")
            #expect(try byReason.json(as: [String: Int].self) == ["redriven": 1, "matched": 1])
            #expect(try await database.number("select count(*) from breakwater.job where kind = 'email.send'") == 3)

            #expect(
                try await database.worker("dead-letters", "purge", "--kind", "hook", "--older-than", "1d").output
                    == "0 dead letters were deleted.\n"
            )
            #expect(try await database.worker("dead-letters", "purge", "4").output == "1 dead letter was deleted.\n")
            #expect(
                try await database.worker("dead-letters", "purge", "--all").output == "2 dead letters were deleted.\n"
            )
        }
    }
}
