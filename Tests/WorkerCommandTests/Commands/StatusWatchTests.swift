import BreakwaterTesting
import Foundation
import Libpq
import Logging
import Testing

@testable import WorkerCommand

@Suite(
    "On a terminal, worker status --watch",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct StatusWatchTests {
    private let begin = "\u{1B}[?1049h"
    private let end = "\u{1B}[?1049l"

    @Test("draws circuits first, follows changes and the terminal's size, and restores the terminal on ctrl-C")
    func draws() async throws {
        try await withTestDatabase { database in
            try await database.makeCircuit(kind: "hook")
            try await database.query("insert into breakwater.job (kind) select 'hook' from generate_series(1, 1234)")
            let watch = try TerminalRun(
                ["status", "--watch", "--interval", "100ms"],
                environment: ["DATABASE_URL": database.url]
            )
            try await waitUntil("it shows the jobs") { watch.picture.contains { $0.contains("ready 1,234") } }
            #expect(watch.picture.contains("All circuits are closed."))
            #expect(watch.text.contains(begin))
            try await database.query("select breakwater.open_circuit('hook', 'no hooks today')")
            try await waitUntil("it shows the circuit") { watch.picture.contains { $0.contains("no hooks today") } }
            let titles = watch.picture.filter { ["CIRCUITS NOT CLOSED", "JOBS", "NOTE"].contains($0) }
            #expect(titles == ["CIRCUITS NOT CLOSED", "JOBS", "NOTE"])

            watch.resize(width: 40, height: 6)
            try await waitUntil("it fits the smaller terminal") {
                let picture = watch.picture
                return picture.count <= 6 && picture.allSatisfy { $0.displayWidth <= 40 }
            }
            #expect(!watch.text.contains("\u{1B}[2J\u{1B}[2J"), "it is never cleared to be drawn again")
            watch.type("\u{3}")
            #expect(try await watch.end() == 0)
            #expect(watch.text.hasSuffix(end))
        }
    }

    @Test("ends with q, and keys do not show")
    func quits() async throws {
        try await withTestDatabase { database in
            let watch = try TerminalRun(["status", "--watch"], environment: ["DATABASE_URL": database.url])
            try await waitUntil("it shows something") { !watch.picture.isEmpty }
            watch.type("zq")
            #expect(try await watch.end() == 0)
            #expect(!watch.text.contains("zq"))
            #expect(watch.text.hasSuffix(end))
        }
    }

    @Test("restores the terminal while it is suspended, and takes it again")
    func suspends() async throws {
        try await withTestDatabase { database in
            let watch = try TerminalRun(["status", "--watch"], environment: ["DATABASE_URL": database.url])
            try await waitUntil("it shows something") { !watch.picture.isEmpty }
            let process = watch.process
            watch.type("\u{1A}")
            try await waitUntil("the terminal is given back") { watch.text.hasSuffix(end) }
            try await waitUntil("it is stopped") { state(of: process) == "T" }
            kill(process, SIGCONT)
            try await waitUntil("it draws again") { watch.text.components(separatedBy: begin).count == 3 }
            watch.type("q")
            #expect(try await watch.end() == 0)
        }
    }

    @Test("keeps the last picture while the database is away, says so, and goes on when it is back")
    func outage() async throws {
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind) select 'hook' from generate_series(1, 7)")
            let watch = try TerminalRun(
                ["status", "--watch", "--interval", "100ms"],
                // A pooler would keep using the sessions that it has.
                environment: ["DATABASE_URL": database.directURL]
            )
            try await waitUntil("it shows the jobs") { watch.picture.contains { $0.contains("ready 7") } }
            // A session cannot disallow connections to its own database.
            let server = try #require(ProcessInfo.processInfo.environment["BREAKWATER_TEST_DATABASE"])
            let other = try await Connection.connect(ConnectionOptions(server), logger: Logger(label: "test"))
            let name = database.name
            _ = try await other.query("alter database \"\(name)\" allow_connections false")
            try await waitUntil("it says what is wrong") { watch.picture.contains { $0.hasPrefix("! ") } }
            #expect(watch.picture.contains { $0.contains("hook") })
            _ = try await other.query("alter database \"\(name)\" allow_connections true")
            await other.close()
            try await waitUntil("it is well again") { watch.picture.contains { $0.contains("ready 7") } }
            watch.type("q")
            #expect(try await watch.end() == 0)
        }
    }

    @Test("prints one status after the other where there is no terminal, and ends with 0 on SIGTERM")
    func plain() async throws {
        try await withTestDatabase { database in
            let run = try WorkerBinary.Run(
                ["status", "--watch", "--interval", "100ms"],
                environment: ["DATABASE_URL": database.url]
            )
            try await waitUntil("three were printed") { run.output.components(separatedBy: "==> ").count > 3 }
            run.signal(SIGTERM)
            let ending = try await run.end()
            #expect(ending.status == 0)
            #expect(!ending.output.contains("\u{1B}"))
            let json = try WorkerBinary.Run(
                ["status", "--watch", "--json", "--interval", "100ms"],
                environment: ["DATABASE_URL": database.url]
            )
            try await waitUntil("three were printed") { json.output.components(separatedBy: "\n").count > 3 }
            json.signal(SIGINT)
            let lines = try await json.end().output.split(separator: "\n")
            for line in lines {
                let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                #expect(object?["rates"] is [Any])
            }
        }
    }

    /// The letter of a process's state, such as T for stopped.
    private func state(of process: pid_t) -> String? {
        let text = (try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)) ?? ""
        return text.components(separatedBy: ") ").last?.prefix(1).description
    }
}
