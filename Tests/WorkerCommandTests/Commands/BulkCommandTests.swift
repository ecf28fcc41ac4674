import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import WorkerCommand

@Suite(
    "Commands for many jobs at once",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct BulkCommandTests {
    private func lines(_ numbers: ClosedRange<Int>) -> String {
        numbers.map { "{\"kind\": \"k\", \"payload\": {\"n\": \($0)}}\n" }.joined()
    }

    private func payloads(_ database: TestDatabase) async throws -> [Int64] {
        try await database.numbers("select (payload ->> 'n')::bigint from breakwater.job order by id")
    }

    @Test("enqueue adds a job for each line, in order, with everything that a line says")
    func enqueueFile() async throws {
        try await withTestDatabase { database in
            let text = """
                \u{FEFF}{"kind": "a", "payload": [1, 2.50], "queue": "bulk", "priority": 2, "max_attempts": 3}

                {"kind": "b", "run_at": "2999-01-01T00:00:00Z", "unique_key": "u", "traceparent": "t"}\r
                {"kind": "b", "unique_key": "u"}
                {"kind": "c"}
                """
            let ending = try await database.worker("enqueue", "--file", "-", "--priority", "7", input: text)
            #expect(ending.status == 0, "\(ending.errors)")
            #expect(ending.output == "3 jobs were added, 1 were there already.\n")
            let rows = try await database.texts(
                """
                select concat_ws(' ', kind, queue, priority, payload, max_attempts, unique_key, traceparent,
                                 extract(year from run_at at time zone 'UTC'))
                  from breakwater.job order by id
                """
            )
            #expect(rows == ["a bulk 2 [1, 2.50] 3", "b default 7 {} u t 2999", "c default 7 {}"])
            let payloads = try await database.worker("enqueue", "p", "--file", "-", "--json", input: "1\n{\"kind\": 2}")
            #expect(try payloads.json(as: [String: Any].self)["added"] as? Int == 2)
            #expect(
                try await database.texts("select payload::text from breakwater.job where kind = 'p' order by id")
                    == ["1", "{\"kind\": 2}"]
            )
        }
    }

    @Test(
        "enqueue stops at a bad line after adding those before it, and says how to go on",
        arguments: [
            ("{\"kind\": \"k\"", "not one JSON value"), ("[1]", "not a JSON object"),
            ("{\"priority\": 1}", "names no kind"),
            ("{\"kind\": \"k\", \"prio\": 1}", "no key 'prio'"),
            ("{\"kind\": \"k\", \"priority\": 10}", "priority 10 is not 0 to 9"),
            ("{\"kind\": \"k\", \"payload\": \"\\u0000\"}", "\\u0000"),
            ("{\"kind\": \"k\", \"run_at\": \"someday\"}", "someday"),
        ]
    )
    func badLine(line: String, message: String) async throws {
        try await withTestDatabase { database in
            let input = lines(1...5) + line + "\n" + lines(7...9)
            let ending = try await database.worker("enqueue", "--file", "-", input: input)
            #expect(ending.status == 64)
            #expect(ending.errors.contains("standard input:6: "), "\(ending.errors)")
            #expect(ending.errors.contains(message), "\(ending.errors)")
            #expect(ending.errors.contains("5 jobs were added"))
            #expect(ending.errors.contains("--from-line 6"))
            #expect(try await payloads(database) == [1, 2, 3, 4, 5])
            let check = try await database.worker("enqueue", "--file", "-", "--dry-run", input: lines(1...3))
            #expect(check.output == "3 jobs would be added.\n")
            let rest = try await database.worker(
                "enqueue",
                "--file",
                "-",
                "--from-line",
                "7",
                input: input
            )
            #expect(rest.status == 0, "\(rest.errors)")
            #expect(try await payloads(database) == [1, 2, 3, 4, 5, 7, 8, 9])
        }
    }

    @Test("enqueue --import, interrupted on a terminal and even killed, goes on and adds every line once")
    func importGoesOn() async throws {
        try await withTestDatabase { database in
            try await withFile(lines(1...2000)) { path in
                let arguments = ["enqueue", "--file", path, "--import", "january", "--rate", "200"]
                func count() async throws -> Int { try await database.number("select count(*) from breakwater.job") }
                let first = try TerminalRun(arguments, environment: ["DATABASE_URL": database.url])
                try await waitUntil("it shows its progress") { first.text.contains(" a second, ") }
                try await waitUntil("some lines are in") { try await count() > 20 }
                first.type("\u{3}")
                #expect(try await first.end() == 130)
                #expect(first.text.contains("interrupted after line"), "\(first.text)")
                #expect(first.text.contains("The same command goes on"))
                let done = try await count()
                #expect(done < 2000)
                #expect(try await database.number("select lines from breakwater.import") == done)

                let second = try WorkerBinary.Run(arguments, environment: ["DATABASE_URL": database.url])
                try await waitUntil("more lines are in") { try await count() > done + 20 }
                second.signal(SIGKILL)
                _ = try await second.end()
                let third = try await database.worker("enqueue", "--file", path, "--import", "january", "--json")
                #expect(third.status == 0, "\(third.errors)")
                #expect(third.errors.contains("goes on after line"))
                #expect(try await payloads(database) == Array(1...2000))
                let fourth = try await database.worker("enqueue", "--file", path, "--import", "january")
                #expect(fourth.output == "0 jobs were added.\n")

                try await withFile(lines(2...2001)) { other in
                    let refused = try await database.worker("enqueue", "--file", other, "--import", "january")
                    #expect(refused.status == 1)
                    #expect(refused.errors.contains("it is another file, or has changed"))
                }
                #expect(try await count() == 2000)
            }
        }
    }

    @Test("redrive counts, works in portions at a given rate, and loses nothing when it is interrupted")
    func redrive() async throws {
        try await withTestDatabase { database in
            try await database.query(
                """
                insert into breakwater.dead_letter (id, queue, kind, priority, payload, reason, attempt, unique_key, enqueued_at)
                overriding system value
                select n, 'default', 'k', 5, '{}', 'exhausted', 1, case when n <= 50 then 'u' || n end, now()
                  from generate_series(1, 500) n
                """
            )
            // Newer jobs have taken these unique keys, so these dead letters cannot come back.
            try await database.query(
                "insert into breakwater.job (kind, unique_key) select 'k', 'u' || n from generate_series(1, 50) n"
            )
            let count = try await database.worker("dead-letters", "redrive", "--all", "--dry-run", "--json")
            #expect(try count.json(as: [String: Int].self) == ["redriven": 0, "matched": 500])
            let first = try TerminalRun(
                ["dead-letters", "redrive", "--kind", "k", "--portion", "10", "--rate", "40"],
                environment: ["DATABASE_URL": database.url]
            )
            try await waitUntil("it shows its progress") { first.text.contains(" a second, ") }
            first.type("\u{3}")
            #expect(try await first.end() == 130)
            #expect(first.text.contains("The same command goes on with the rest."), "\(first.text)")
            let left = try await database.number("select count(*) from breakwater.dead_letter")
            #expect(left < 500 && left > 50)
            #expect(try await database.number("select count(*) from breakwater.job") == 550 - left)
            let some = try await database.worker("dead-letters", "redrive", "--all", "--limit", "7", "--portion", "5")
            #expect(some.output == "7 dead letters were put back.\n")
            let rest = try await database.worker("dead-letters", "redrive", "--all", "--portion", "100")
            #expect(rest.output == "\(left - 57) dead letters were put back.\n", "\(rest.errors)")
            #expect(try await database.number("select count(*) from breakwater.dead_letter") == 50)
            let purge = try await database.worker("dead-letters", "purge", "--all", "--portion", "7")
            #expect(purge.output == "50 dead letters were deleted.\n")
        }
    }

    @Test("redrive does not put back a job again that dies again meanwhile")
    func redriveOnce() async throws {
        try await withTestDatabase { database in
            try await database.bury(1...20, kind: "k")
            // Every job that is put back dies at once.
            try await database.connection.script(
                """
                create function public.die() returns trigger language plpgsql as $$
                begin perform breakwater.dead_letter_job(new.id, 'exhausted', null); return null; end $$;
                create trigger die after insert on breakwater.job for each row execute function public.die();
                """
            )
            let ending = try await database.worker("dead-letters", "redrive", "--all", "--portion", "3")
            #expect(ending.status == 0, "\(ending.errors)")
            #expect(ending.output == "20 dead letters were put back.\n")
            #expect(try await database.number("select count(*) from breakwater.dead_letter") == 20)
        }
    }
}
