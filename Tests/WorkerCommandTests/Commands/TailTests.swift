import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import WorkerCommand

@Suite(
    "worker tail",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct TailTests {
    private let file = """
        poll_interval: 50ms
        handlers:
          good: { exec: { command: ["true"] } }
          bad: { exec: { command: ["false"] }, retry: { max_attempts: 2, base: 10ms, cap: 10ms } }
        """

    /// Runs `worker tail` on a database during the body, and returns its output.
    @discardableResult
    private func following(
        _ database: TestDatabase,
        _ arguments: String...,
        body: (WorkerBinary.Run) async throws -> Void
    ) async throws -> WorkerBinary.Ending {
        let run = try WorkerBinary.Run(["tail"] + arguments, environment: ["DATABASE_URL": database.url])
        try await waitUntil("it follows") {
            try await database.number("select count(*) from breakwater.tail_subscriber") == 1
        }
        // It subscribes first and then reads its start position. A query for outcomes means that it has both.
        try await waitUntil("it looks") {
            try await database.number(
                """
                select count(*) from pg_stat_activity
                 where datname = current_database() and application_name = 'breakwater-cli' and query ~ 'breakwater.outcome'
                """
            ) == 1
        }
        do {
            try await body(run)
        } catch {
            run.signal(SIGKILL)
            Issue.record("it printed:\n\(try await run.end())")
            throw error
        }
        run.signal(SIGINT)
        let ending = try await run.end()
        #expect(ending.status == 0, "\(ending.errors)")
        return ending
    }

    private func objects(_ ending: WorkerBinary.Ending) throws -> [[String: Any]] {
        try ending.output.split(separator: "\n").map {
            try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
        }
    }

    @Test("shows each success, failure and dead letter once, and transitions, and ends with 0 on ctrl-C")
    func follows() async throws {
        try await withTestDatabase { database in
            try await database.running(file) { _ in
                try await waitUntil("the circuit is there") {
                    try await database.number("select count(*) from breakwater.circuit where kind = 'good'") == 1
                }
                let ending = try await following(database, "--json") { run in
                    try await database.query(
                        "insert into breakwater.job (kind, payload) values ('good', '\"secret\"'), ('bad', '\"secret\"')"
                    )
                    try await waitUntil("the dead letter is told") { run.output.contains("dead_letter") }
                    try await waitUntil("the success is told") { run.output.contains("succeeded") }
                    try await database.query("select breakwater.open_circuit('good', 'a test', actor => 'ada')")
                    try await waitUntil("the circuit is told") { run.output.contains("a test") }
                    try await database.query("select breakwater.cancel(breakwater.enqueue('good'))")
                    try await waitUntil("the cancelled one is told") { run.output.contains("cancelled") }
                }
                let told = try objects(ending)
                #expect(
                    told.compactMap { $0["outcome"] as? String }.sorted()
                        == ["circuit", "dead_letter", "dead_letter", "failed", "succeeded"]
                )
                let failed = try #require(told.first { $0["outcome"] as? String == "failed" })
                #expect(failed["kind"] as? String == "bad")
                #expect(failed["attempt"] as? Int == 1)
                #expect(failed["max_attempts"] as? Int == 2)
                #expect(failed["name"] as? String == "exit.1")
                #expect(failed["run_at"] is String)
                #expect(failed["took_seconds"] is Double)
                let reasons = told.compactMap { $0["reason"] as? String }.sorted()
                #expect(reasons == ["a test", "cancelled", "exhausted"])
                #expect(!ending.output.contains("secret"))
            }
            #expect(try await database.number("select count(*) from breakwater.tail_subscriber") == 0)
        }
    }

    @Test("shows only the selected kind and outcome, in words")
    func filters() async throws {
        _ = try await withTestDatabase { database in
            try await database.running(file) { _ in
                let ending = try await following(database, "--kind", "bad", "--outcome", "dead_letter") { run in
                    try await database.query("insert into breakwater.job (kind) values ('good'), ('bad')")
                    try await waitUntil("the dead letter is told") { run.output.contains("dead-letter") }
                }
                let lines = ending.output.split(separator: "\n")
                #expect(lines.count == 1)
                #expect(lines[0].contains("bad"))
                #expect(lines[0].contains("exhausted, attempt 2 of 2"))
                #expect(lines[0].contains("exit.1"))
            }
        }
    }

    @Test("costs nothing when no command follows: no row is written")
    func idle() async throws {
        try await withTestDatabase { database in
            try await database.running(file) { _ in
                try await database.query("insert into breakwater.job (kind) values ('good'), ('bad')")
                try await waitUntil("both have ended") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
            }
            #expect(try await database.number("select count(*) from breakwater.outcome") == 0)
        }
    }

    @Test(
        "goes on when its connection is lost",
        .disabled(if: TestDatabase.isPooled, "a pooler keeps from its clients that a session has ended")
    )
    func reconnects() async throws {
        _ = try await withTestDatabase { database in
            try await following(database, "--json") { run in
                try await database.query(
                    """
                    select pg_terminate_backend(pid) from pg_stat_activity
                     where datname = current_database() and application_name = 'breakwater-cli'
                    """
                )
                try await waitUntil("it is connected again") { run.errors.contains("Connected again") }
                try await database.query("select breakwater.cancel(breakwater.enqueue('k'))")
                try await waitUntil("it tells") { run.output.contains("cancelled") }
            }
        }
    }
}
