import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import WorkerCommand

@Suite(
    "A running worker meets bad input:",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct BadInputTests {
    private let cat = "poll_interval: 50ms\nhandlers: { echo: { exec: { command: [cat] }, keep_results: 1h } }"

    /// Runs `worker run` with this file until it ends by itself, and returns how it ended.
    private func run(_ file: String, database url: String) async throws -> WorkerBinary.Ending {
        try await withFile(file) { try await WorkerBinary.run(["run", "--config", $0, "--database", url]) }
    }

    @Test(
        "a database URL that cannot be read",
        arguments: [
            "postgresql://u:hunter2@h:port/x", "host=h sslmod=require password=hunter2", "mysql://u:hunter2@h/x",
        ]
    )
    func unreadable(url: String) async throws {
        for ending in [try await run(cat, database: url), try await WorkerBinary.run(["status", "--database", url])] {
            #expect(ending.status == 78, "\(ending.errors)")
            #expect(ending.errors.contains("the conninfo cannot be read"))
            #expect(!ending.errors.contains("hunter2"))
        }
    }

    @Test("a database or a user that does not exist")
    func wrongDatabase() async throws {
        try await withTestDatabase { database in
            // The test expects the server's own messages. A pooler has others.
            var parts = try #require(URLComponents(string: database.directURL))
            parts.path = "/no_such_database"
            let noDatabase = try await run(cat, database: try #require(parts.string))
            #expect(noDatabase.status == 69)
            #expect(noDatabase.errors.contains("\"no_such_database\" does not exist"), "\(noDatabase.errors)")
            parts.user = "nobody_of_this_name"
            let noUser = try await run(cat, database: try #require(parts.string))
            #expect(noUser.status == 77)
            #expect(noUser.errors.contains("nobody_of_this_name"), "\(noUser.errors)")
        }
    }

    @Test("a schema of another version", arguments: [(0, "needs 1: run 'worker migrate'"), (99, "use a newer one")])
    func otherVersion(version: Int, advice: String) async throws {
        try await withTestDatabase { database in
            try await database.query("update breakwater.schema_version set version = $1", [.int4(Int32(version))])
            let ending = try await run(cat, database: database.url)
            #expect(ending.status == 78)
            #expect(ending.errors.contains("has version \(version)"), "\(ending.errors)")
            #expect(ending.errors.contains(advice), "\(ending.errors)")
            #expect(try await database.number("select count(*) from breakwater.worker") == 0)
            if version == 99 {
                #expect(try await database.worker("migrate").status == 78)
            }
        }
    }

    @Test("a user without privileges", arguments: [nil, "breakwater_enqueue", "breakwater_admin"])
    func permission(membership: String?) async throws {
        try await withTestDatabase { database in
            try await database.withRole(membership) { url in
                let ending = try await run(cat, database: url)
                #expect(ending.status == 77, "\(ending.errors)")
                #expect(ending.errors.contains("breakwater_worker"), "\(ending.errors)")
            }
        }
    }

    @Test("fallbacks that lead in a circle, in one file or across the fleet")
    func circle() async throws {
        func handler(_ kind: String, to other: String) -> String {
            "\(kind): { exec: { command: [cat] }, circuit: { fallback: { reroute: \(other) } } }"
        }
        try await withTestDatabase { database in
            let one = "handlers: { \(handler("a", to: "b")), \(handler("b", to: "a")) }"
            let ending = try await run(one, database: database.url)
            #expect(ending.status == 78)
            #expect(ending.errors.contains("'a' → 'b' → 'a' is a circle"), "\(ending.errors)")
            try await database.running("handlers: { \(handler("a", to: "b")) }") { _ in
                try await waitUntil("the other worker is there") {
                    try await database.number("select count(*) from breakwater.worker") == 1
                }
                let second = try await run("handlers: { \(handler("b", to: "a")) }", database: database.url)
                #expect(second.status == 78)
                #expect(second.errors.contains("lead in a circle"), "\(second.errors)")
            }
        }
    }

    @Test("a payload that is not what the handler's type expects")
    func wrongPayload() async throws {
        try await withTestDatabase { database in
            let outbox = FileManager.default.temporaryDirectory.appending(path: "outbox-\(UUID().uuidString)")
            try FileManager.default.createDirectory(at: outbox, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(at: outbox) }
            let file = "poll_interval: 50ms\nhandlers: { email.send: { swift: {} } }"
            try await database.query(
                """
                insert into breakwater.job (kind, payload)
                values ('email.send', '{"to": 5, "subject": "x"}'), ('email.send', '{"to": "a@b.c", "subject": "x"}')
                """
            )
            let variables = ["EXAMPLE_OUTBOX": outbox.path()]
            try await database.running(file, program: WorkerBinary.example, environment: variables) { _ in
                try await waitUntil("both have ended") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
            }
            let dead = try await database.worker("job", "1")
            #expect(dead.output.contains(/reason: +discarded/), "\(dead.output)")
            #expect(dead.output.contains("the payload's field 'to' is not a String"), "\(dead.output)")
            #expect(try await database.number("select count(*) from breakwater.result where id = 2") == 1)
        }
    }

    @Test("a kind that no worker handles stays queued, and status says so")
    func unknownKind() async throws {
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind) values ('ecoh'), ('echo')")
            try await database.running(cat) { _ in
                try await waitUntil("the other has run") {
                    try await database.number("select count(*) from breakwater.result") == 1
                }
                let status = try await database.worker("status")
                #expect(
                    status.output.contains(
                        "No worker that is alive handles 'ecoh' in the queue 'default': 1 job waits."
                    ),
                    "\(status.output)"
                )
                let job: [String: Any] = try await database.worker("job", "1", "--json").json()
                #expect(job["state"] as? String == "no_handler")
                #expect(job["attempt"] as? Int == 0)
            }
        }
    }

    @Test("a program that does not exist when the worker starts")
    func noProgram() async throws {
        try await withTestDatabase { database in
            let ending = try await run(
                "handlers:\n  a: { exec: { command: [no-such-program] } }",
                database: database.url
            )
            #expect(ending.status == 78)
            #expect(ending.errors.contains(":2: handlers.a.exec.command: "), "\(ending.errors)")
            #expect(ending.errors.contains("no-such-program"))
        }
    }

    @Test("a program that goes away later: the job is retried, and runs when it is back")
    func programGone() async throws {
        try await withTestDatabase { database in
            let program = FileManager.default.temporaryDirectory.appending(path: "program-\(UUID().uuidString)")
            func install() throws {
                try FileManager.default.copyItem(atPath: "/bin/cat", toPath: program.path())
            }
            try install()
            defer { try? FileManager.default.removeItem(at: program) }
            let file = """
                poll_interval: 50ms
                handlers:
                  echo:
                    exec: { command: ["\(program.path())"] }
                    keep_results: 1h
                    retry: { base: 50ms, cap: 100ms }
                    circuit: off
                """
            try await database.running(file) { _ in
                try await waitUntil("the worker is there") {
                    try await database.number("select count(*) from breakwater.worker") == 1
                }
                try FileManager.default.removeItem(at: program)
                try await database.query("insert into breakwater.job (kind, payload) values ('echo', '[1]')")
                try await waitUntil("a run has failed") {
                    try await database.number(
                        "select count(*) from breakwater.job where errors -> 0 ->> 'name' = 'exec.notFound'"
                    ) == 1
                }
                try install()
                try await waitUntil("it has run") {
                    try await database.number("select count(*) from breakwater.result where result = '[1]'") == 1
                }
            }
        }
    }

    @Test("output that is not UTF-8, and more of it than is kept")
    func output() async throws {
        try await withTestDatabase { database in
            let file = """
                poll_interval: 50ms
                handlers:
                  binary: { exec: { command: [printf, '\\377\\000abc'] }, keep_results: 1h }
                  endless: { exec: { command: [sh, -c, "yes | head -c 3000000"], max_output: 1KiB }, keep_results: 1h }
                  noisy: { exec: { command: [sh, -c, 'printf "\\377\\n" >&2; yes | head -c 3000000 >&2; exit 65'] } }
                """
            try await database.query("insert into breakwater.job (kind) values ('binary'), ('endless'), ('noisy')")
            let ending = try await database.running(file) { _ in
                try await waitUntil("all have ended") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
            }
            #expect(ending.status == 0)
            let results = try await database.query("select result #>> '{}' from breakwater.result order by id")
            #expect(try results.map { try $0[0].string() }.first == "\u{FFFD}abc")
            #expect(try results.map { try $0[0].string().utf8.count }.last == 1024)
            #expect(ending.messages.contains("The result was cut: the handler gave more than is kept"))
            let error = try await database.query(
                "select reason, octet_length(errors -> 0 ->> 'message') from breakwater.dead_letter"
            )[0]
            #expect(try error[0].string() == "discarded")
            #expect(try error[1].int() < 10_000)
            // Every line of the log is one JSON object, even though the programs wrote other text.
            #expect(ending.logLines.count == ending.errors.split(separator: "\n").count)
        }
    }

    @Test("a job that is deleted while it runs: its result is dropped, and the others go on")
    func deleted() async throws {
        try await withTestDatabase { database in
            let gate = FileManager.default.temporaryDirectory.appending(path: "gate-\(UUID().uuidString)")
            defer { try? FileManager.default.removeItem(at: gate) }
            let file = """
                poll_interval: 50ms
                handlers:
                  slow:
                    exec: { command: [sh, -c, "until test -e \(gate.path()); do sleep 0.02; done; echo done"] }
                    keep_results: 1h
                """
            let ending = try await database.running(file) { _ in
                try await database.query("insert into breakwater.job (kind) values ('slow'), ('slow')")
                try await waitUntil("both run") {
                    try await database.number("select count(*) from breakwater.held") == 2
                }
                try await database.query("delete from breakwater.job where id = 1")
                _ = FileManager.default.createFile(atPath: gate.path(), contents: nil)
                try await waitUntil("the other has been settled") {
                    try await database.number("select count(*) from breakwater.result where id = 2") == 1
                }
                try await database.query("insert into breakwater.job (kind) values ('slow')")
                try await waitUntil("a third has run") {
                    try await database.number("select count(*) from breakwater.result where id = 3") == 1
                }
            }
            #expect(ending.status == 0, "\(ending.errors)")
            #expect(try await database.number("select count(*) from breakwater.job") == 0)
            #expect(try await database.number("select count(*) from breakwater.dead_letter") == 0)
            #expect(try await database.number("select count(*) from breakwater.result where id = 1") == 0)
        }
    }
}
