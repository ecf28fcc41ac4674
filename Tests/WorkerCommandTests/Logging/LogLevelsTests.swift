import BreakwaterTesting
import Foundation
import Libpq
import Logging
import Testing

@testable import WorkerCommand

@Suite("Log levels")
struct LogLevelsTests {
    @Test("are those of the longest matching prefix of a label, and change while loggers are in use")
    func labels() {
        let levels = LogLevels(.info, ["breakwater": .warning, "breakwater.jobs": .debug])
        let jobs = levels.level(of: "breakwater.jobs")
        let other = levels.level(of: "breakwater.jobsworth")
        let third = levels.level(of: "somebody.else")
        #expect(levels.level(of: "breakwater.jobs.slow").current == .debug)
        #expect(jobs.current == .debug && other.current == .warning && third.current == .info)
        levels.change(to: .error, ["breakwater.jobs": .trace])
        #expect(jobs.current == .trace && other.current == .error && third.current == .error)
    }

    @Test(
        "are read again on SIGHUP, and a log line has typed values and holds no payload",
        .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
        .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
    )
    func reload() async throws {
        let file = """
            poll_interval: 50ms
            handlers:
              good: { exec: { command: [cat] } }
              bad:
                exec: { command: [sh, -c, "exit 65"] }
                circuit: { consecutive_failures: 1, count_on: ["exit.65"], suspend_workers: false, open_for: 1h, open_cap: 1h }
            """
        try await withTestDatabase { database in
            try await withFile(file) { path in
                let run = try WorkerBinary.Run(["run", "--config", path, "--database", database.url])
                func enqueue(_ kind: String) async throws {
                    try await database.query(
                        "insert into breakwater.job (kind, payload) values ($1, '\"s3cret-payload\"')",
                        [.text(kind)]
                    )
                    try await waitUntil("the job ends") {
                        try await database.number("select count(*) from breakwater.job") == 0
                    }
                }
                try await enqueue("good")
                try (file + "\nlog_levels: { breakwater.jobs: debug }").write(
                    toFile: path,
                    atomically: true,
                    encoding: .utf8
                )
                run.signal(SIGHUP)
                try await waitUntil("the levels are taken") { run.errors.contains("took the log levels") }
                try await enqueue("good")
                try await enqueue("bad")
                try "nonsense".write(toFile: path, atomically: true, encoding: .utf8)
                run.signal(SIGHUP)
                try await waitUntil("it complains") {
                    run.errors.contains("the configuration is wrong, and the log levels stay")
                }
                run.signal(SIGTERM)
                let ending = try await run.end()
                #expect(ending.status == 0)
                #expect(!ending.errors.contains("s3cret-payload"))

                let ended = ending.logLines.filter { $0["msg"] as? String == "job ended" }
                #expect(ended.count == 1)
                #expect(ended.first?["job"] as? Int == 2)
                #expect(ended.first?["attempt"] as? Int == 1)
                #expect(ended.first?["run_seconds"] as? Double ?? -1 > 0)
                #expect(ended.first?["label"] as? String == "breakwater.jobs")
                #expect(ended.first?["level"] as? String == "debug")
                let failed = ending.logLines.filter { $0["msg"] as? String == "job failed" }
                #expect(failed.count == 1)
                #expect(failed.first?["error"] as? String == "exit.65")
                #expect(failed.first?["level"] as? String == "info")

                let transition = try #require(ending.logLines.first { $0["circuit"] != nil })
                #expect(transition["level"] as? String == "notice")
                #expect(transition["label"] as? String == "breakwater.circuits")
                #expect(transition["circuit"] as? String == "bad")
                #expect(transition["from"] as? String == "closed")
                #expect(transition["to"] as? String == "open")
                #expect(transition["generation"] as? Int == 2)
                #expect((transition["reason"] as? String)?.isEmpty == false)
                #expect(transition["postgres.detail"] == nil)
            }
        }
    }
}
