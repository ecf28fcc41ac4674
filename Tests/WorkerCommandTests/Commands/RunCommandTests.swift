import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import WorkerCommand

@Suite(
    "A running worker",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct RunCommandTests {
    private let file = """
        shutdown_grace: 1m
        poll_interval: 50ms
        handlers:
          digest: { exec: { command: [sha256sum] }, keep_results: 1h }
          stuck: { exec: { command: [sleep, "60"], kill_after: 0s } }
        """

    @Test("runs jobs, drains on a signal, and exits with 0", arguments: [SIGTERM, SIGINT])
    func drains(signal: Int32) async throws {
        try await withTestDatabase { database in
            try await withFile(file) { path in
                let run = try WorkerBinary.Run(["run", "--config", path, "--database", database.url])
                try await database.query("insert into breakwater.job (kind, payload) values ('digest', '\"abc\"')")
                try await waitUntil("the job has run") {
                    try await database.number("select count(*) from breakwater.result") == 1
                }
                run.signal(signal)
                let ending = try await run.end()
                #expect(ending.status == 0, "\(ending.errors)")
                #expect(ending.output == "")
                #expect(ending.errors.split(separator: "\n").allSatisfy { $0.hasPrefix("{\"ts\":") })
                #expect(try await database.number("select count(*) from breakwater.worker") == 0)
            }
        }
    }

    @Test(
        "needs four connections, whatever its concurrency",
        .disabled(if: TestDatabase.isPooled, "what the server sees are the pooler's own sessions")
    )
    func connections() async throws {
        try await withTestDatabase { database in
            let sessions = """
                select count(*) from pg_stat_activity
                 where datname = current_database() and pid <> pg_backend_pid()
                   and application_name = 'breakwater' and backend_type = 'client backend'
                """
            try await database.running("concurrency: 500\n" + file) { _ in
                // The worker listens while it is idle. It is the leader, because it is the only worker.
                try await waitUntil("it is idle, and leads") {
                    try await database.number(
                        "select (select count(*) from breakwater.sleeper) + (select count(*) from breakwater.leader)"
                    ) == 2
                }
                try await waitUntil("all are there") { try await database.number(sessions) >= 4 }
                try await database.query(
                    "insert into breakwater.job (kind) select 'digest' from generate_series(1, 200)"
                )
                // On a slow machine, a closed session may linger. The least number of sessions is the number that it
                // needs.
                var least = Int.max
                try await waitUntil("all jobs have run") {
                    least = min(least, try await database.number(sessions))
                    return try await database.number("select count(*) from breakwater.job") == 0
                }
                #expect(least == 4)
            }
        }
    }

    @Test("ends at once on a second signal", arguments: [SIGTERM, SIGINT])
    func secondSignal(signal: Int32) async throws {
        try await withTestDatabase { database in
            try await withFile(file) { path in
                let run = try WorkerBinary.Run(["run", "--config", path, "--database", database.url])
                try await database.query("insert into breakwater.job (kind) values ('stuck')")
                try await waitUntil("the job runs") {
                    try await database.number("select count(*) from breakwater.held") == 1
                }
                run.signal(signal)
                try await waitUntil("the worker drains") { run.errors.contains("draining") }
                run.signal(signal)
                #expect(try await run.end().status == 128 + signal)
            }
        }
    }

    /// Whether a process is still alive.
    private func isAlive(_ process: String) -> Bool {
        // The state follows the name in brackets. Z is an ended process that its parent has not reaped yet.
        let status = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)
        return status.map { !$0.contains(") Z ") } ?? false
    }

    /// Runs a job whose program has a child of its own. The body gets both processes' ids once they run.
    private func withPrograms(
        _ database: TestDatabase,
        grace: String,
        _ body: (WorkerBinary.Run, _ programs: [String]) async throws -> Void
    ) async throws {
        let pids = FileManager.default.temporaryDirectory.appending(path: "pids-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: pids) }
        // The program gets its input only after the worker has recorded its process.
        let script = "cat; sleep 600 & echo $$ $! > \(pids.path()).new; mv \(pids.path()).new \(pids.path()); wait"
        let file = """
            poll_interval: 50ms
            shutdown_grace: \(grace)
            handlers: { stuck: { exec: { command: [sh, -c, "\(script)"] }, timeout: 10m } }
            """
        try await withFile(file) { path in
            let run = try WorkerBinary.Run(["run", "--config", path, "--database", database.url])
            try await database.query("insert into breakwater.job (kind) values ('stuck')")
            try await waitUntil("the program runs") { FileManager.default.fileExists(atPath: pids.path()) }
            let programs = try String(contentsOf: pids, encoding: .utf8).split(whereSeparator: \.isWhitespace)
            #expect(programs.count == 2)
            #expect(programs.allSatisfy { isAlive(String($0)) })
            try await body(run, programs.map(String.init))
        }
    }

    @Test("leaves none of its programs behind, however it ends", arguments: [[SIGKILL], [SIGTERM, SIGTERM]])
    func orphans(signals: [Int32]) async throws {
        try await withTestDatabase { database in
            try await withPrograms(database, grace: "10m") { run, programs in
                run.signal(signals[0])
                if signals.count > 1 {
                    try await waitUntil("the worker drains") { run.errors.contains("draining") }
                    run.signal(signals[1])
                }
                _ = try await run.end()
                try await waitUntil("the programs have ended") { !programs.contains(where: isAlive) }
            }
        }
    }

    @Test(
        "leaves none of its programs behind when the database ends at the moment of SIGTERM",
        .disabled(if: TestDatabase.isPooled, "what the server sees are the pooler's own sessions"),
        arguments: [true, false]
    )
    func databaseEnds(isSignalledFirst: Bool) async throws {
        try await withTestDatabase { database in
            try await withPrograms(database, grace: "1s") { run, programs in
                if isSignalledFirst { run.signal(SIGTERM) }
                // The last connection to a database cannot be refused from inside it, so this connects to another
                // database.
                var other = ConnectionOptions(database.directURL)
                other.keywords["dbname"] = "postgres"
                let server = try await Connection.connect(other, logger: RecordedLog().logger())
                try await server.script("alter database \(database.name) allow_connections false")
                _ = try await server.query(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> $2",
                    [.text(database.name), .int4(database.connection.backendPID)]
                )
                await server.close()
                if !isSignalledFirst { run.signal(SIGTERM) }
                #expect(try await run.end().status == 0)
                try await waitUntil("the programs have ended") { !programs.contains(where: isAlive) }
            }
        }
    }

    @Test("run-now --through sends one job past a pause and an open circuit, and reports how it ended")
    func testShot() async throws {
        let file = """
            poll_interval: 50ms
            handlers:
              good: { exec: { command: ["true"] } }
              bad: { exec: { command: ["sh", "-c", "echo it is down >&2; exit 69"] } }
            """
        try await withTestDatabase { database in
            let ending = try await database.running(file) { _ in
                try await waitUntil("it is there") {
                    try await database.number("select count(*) from breakwater.worker") == 1
                }
                try await database.query("select breakwater.pause_kind('good', 'maintenance')")
                try await database.query("select breakwater.open_circuit('bad', 'maintenance')")
                try await database.query("insert into breakwater.job (kind) values ('good'), ('good'), ('bad')")
                let good = try await database.worker("run-now", "1", "--through", "--reason", "a test")
                #expect(good.status == 0)
                #expect(good.output.contains("Job 1 was sent through: succeeded."), "\(good.output)\(good.errors)")
                let bad = try await database.worker("run-now", "3", "--through", "--json")
                #expect(bad.status == 1)
                let result: [String: Any] = try bad.json()
                #expect(result["outcome"] as? String == "unavailable")
                #expect(result["name"] as? String == "exit.69")
                let again = try await database.worker("run-now", "1", "--through")
                #expect(again.status == 1 && again.errors.contains("1"), "\(again.errors)")
                let two = try await database.worker("run-now", "2", "3", "--through")
                #expect(two.status == 64 && two.errors.contains("--through takes one job"), "\(two.errors)")
                #expect(try await database.number("select count(*) from breakwater.job") == 2)
            }
            #expect(ending.status == 0, "\(ending.errors)")
        }
    }

    @Test("logs a transition once in the fleet, in the worker whose call made it")
    func transitions() async throws {
        let file = """
            poll_interval: 50ms
            handlers:
              bad:
                exec: { command: ["false"] }
                circuit: { consecutive_failures: 3, open_for: 1h, open_cap: 1h, suspend_workers: false }
            """
        try await withTestDatabase { database in
            var second: WorkerBinary.Ending?
            let first = try await database.running(file) { _ in
                second = try await database.running(file) { _ in
                    try await waitUntil("both are there") {
                        try await database.number("select count(*) from breakwater.worker") == 2
                    }
                    try await database.query(
                        "insert into breakwater.job (kind) select 'bad' from generate_series(1, 20)"
                    )
                    try await waitUntil("the circuit is open") {
                        try await database.number("select count(*) from breakwater.circuit where state = 'open'") == 1
                    }
                }
            }
            let endings = [first, try #require(second)]
            let lines = endings.flatMap(\.logLines).filter {
                ($0["msg"] as? String)?.hasPrefix("the circuit of bad went from closed to open: ") == true
            }
            #expect(lines.count == 1, "\(endings.map(\.errors))")
            #expect(lines.first?["level"] as? String == "notice")
            let message = try await database.query("select reason from breakwater.circuit_transition")[0][0].string()
            // The line names the failures.
            #expect((lines.first?["msg"] as? String)?.contains(message + ": exit.1 (") == true, "\(lines)")
        }
    }
}
