import BreakwaterTesting
import Foundation
import Testing

@testable import WorkerCommand

@Suite(
    "A running worker",
    .enabled(if: TestDatabase.isAvailable, "BREAKWATER_TEST_DATABASE is not set: run scripts/test"),
    .enabled(if: WorkerBinary.isBuilt, "there is no executable 'worker' beside the tests")
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

    @Test("ends at once on a second signal", arguments: [SIGTERM, SIGINT])
    func secondSignal(signal: Int32) async throws {
        try await withTestDatabase { database in
            try await withFile(file) { path in
                let run = try WorkerBinary.Run(["run", "--config", path, "--database", database.url])
                try await database.query("insert into breakwater.job (kind) values ('stuck')")
                try await waitUntil("the job runs") {
                    try await database.number("select count(*) from breakwater.job where worker is not null") == 1
                }
                run.signal(signal)
                try await waitUntil("the worker drains") { run.errors.contains("draining") }
                run.signal(signal)
                #expect(try await run.end().status == 128 + signal)
            }
        }
    }
}
