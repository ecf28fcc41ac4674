import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import WorkerCommand

extension TestDatabase {
    /// Runs the program on this database.
    fileprivate func worker(_ arguments: String..., input: String? = nil) async throws -> WorkerBinary.Ending {
        try await WorkerBinary.run(arguments, environment: ["DATABASE_URL": url, "USER": "ada"], input: input)
    }

    /// Puts dead letters there, as settling would.
    fileprivate func bury(_ ids: ClosedRange<Int>, kind: String, reason: String = "exhausted") async throws {
        for id in ids {
            try await query(
                """
                insert into breakwater.dead_letter (id, queue, kind, priority, payload, reason, attempt, errors, enqueued_at)
                overriding system value
                values ($1, 'default', $2, 5, '{"n": 1}', $3, 2,
                        '[{"name": "first", "message": "no"}, {"name": "http.500", "message": "it broke"}]', now())
                """,
                [.int8(Int64(id)), .text(kind), .text(reason)]
            )
        }
    }

    /// Makes a circuit, as a starting worker would.
    fileprivate func makeCircuit(kind: String) async throws {
        try await query("insert into breakwater.circuit (kind) values ($1)", [.text(kind)])
    }
}

/// The JSON document that a run printed.
private func json<Value>(_ ending: WorkerBinary.Ending, as type: Value.Type = Value.self) throws -> Value {
    let object = try JSONSerialization.jsonObject(with: Data(ending.output.utf8), options: .fragmentsAllowed)
    return try #require(object as? Value, "\(ending.output)\(ending.errors)")
}

@Suite(
    "On a database, the program worker",
    .enabled(if: TestDatabase.isAvailable, "BREAKWATER_TEST_DATABASE is not set: run scripts/test"),
    .enabled(if: WorkerBinary.isBuilt, "there is no executable 'worker' beside the tests")
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
            let third: [String: Any] = try json(try await database.worker("migrate", "--json"))
            #expect((third["applied"] as? [String]) == [])
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
            #expect(try json(full, as: [String: Int].self) == ["id": 2])
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

    @Test("refuses what Postgres cannot keep, with 64")
    func refusedPayload() async throws {
        try await withTestDatabase { database in
            let ending = try await database.worker("enqueue", "email.send", #"{"to": "\u0000"}"#)
            #expect(ending.status == 64, "\(ending.errors)")
        }
    }

    @Test("exits with 77 when the user lacks a privilege")
    func permission() async throws {
        try await withTestDatabase { database in
            let user = "u\(UUID().uuidString.lowercased().replacing("-", with: ""))"
            try await database.connection.script("create role \(user) login; grant breakwater_enqueue to \(user)")
            var parts = try #require(URLComponents(string: database.url))
            parts.user = user
            let url = try #require(parts.string)
            let status = try await WorkerBinary.run(["status", "--database", url])
            #expect(status.status == 77, "\(status.errors)")
            let enqueue = try await WorkerBinary.run(["enqueue", "k", "--database", url])
            #expect(enqueue.status == 0, "\(enqueue.errors)")
            try await database.connection.script("drop owned by \(user); drop role \(user)")
        }
    }

    @Test("shows depth, age, and kinds that nobody handles")
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
            let status: [String: Any] = try json(try await database.worker("status", "--json"))
            let jobs = try #require(status["jobs"] as? [[String: Any]])
            #expect(jobs.map { $0["ready"] as? Int } == [3, 0])
            #expect(jobs.map { $0["scheduled"] as? Int } == [0, 1])
            #expect((status["unhandled"] as? [[String: String]])?.count == 2)
            #expect((status["dead_letters"] as? [[String: Any]])?.first?["count"] as? Int == 2)
        }
    }

    @Test("opens, shows, closes and resets circuits, and keeps who and why")
    func circuits() async throws {
        try await withTestDatabase { database in
            let missing = try await database.worker("circuits", "open", "hook", "--reason", "x")
            #expect(missing.status == 1)
            #expect(missing.errors.contains("there is no circuit for the kind 'hook'"))
            try await database.makeCircuit(kind: "hook")

            let opened = try await database.worker("circuits", "open", "hook", "--reason", "stop it", "--for", "1h")
            #expect(opened.output.hasPrefix("The circuit of hook is open, until "), "\(opened.errors)")
            let list: [[String: Any]] = try json(try await database.worker("circuits", "--json"))
            #expect(list.first?["state"] as? String == "open")
            #expect(list.first?["override_actor"] as? String == "ada")
            #expect(list.first?["reason"] as? String == "stop it")

            let closed = try await database.worker("circuits", "close", "hook", "--reason", "go", "--actor", "bob")
            #expect(closed.output == "The circuit of hook is closed.\n", "\(closed.errors)")
            let reset: [String: Any] = try json(
                try await database.worker("circuits", "reset", "hook", "--reason", "as before", "--json")
            )
            #expect(reset["state"] as? String == "closed")
            #expect(reset["override"] is NSNull)

            let shown = try await database.worker("circuits", "show", "hook")
            for part in ["state: closed", "stop it", "go", "as before", "ada", "bob"] {
                #expect(shown.output.contains(part), "\(part) is missing in\n\(shown.output)")
            }
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
            let limited: [[String: Any]] = try json(try await database.worker("dead-letters", "--limit", "2", "--json"))
            #expect(limited.count == 2)
            let shown: [String: Any] = try json(try await database.worker("dead-letters", "show", "4", "--json"))
            #expect(shown["payload"] as? [String: Int] == ["n": 1])
            #expect((shown["errors"] as? [[String: Any]])?.count == 2)
            #expect(try await database.worker("dead-letters", "show", "77").status == 1)

            let two = try await database.worker("dead-letters", "redrive", "1", "77", "2")
            #expect(two.status == 1)
            #expect(two.output == "2 dead letters were put back.\n")
            #expect(two.errors.contains("there is no dead letter with the id 77"))
            let byReason = try await database.worker("dead-letters", "redrive", "--reason", "exhausted", "--json")
            #expect(try json(byReason, as: [String: Int].self) == ["redriven": 1])
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
