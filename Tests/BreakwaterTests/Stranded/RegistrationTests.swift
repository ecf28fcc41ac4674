import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Rows of a registration that were deleted", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct RegistrationTests {
    @Test(
        "are put back by the workers that run, and the circuit counts again",
        arguments: ["handler", "circuit", "lane", "handler, breakwater.circuit, breakwater.lane"]
    )
    func putBack(tables: String) async throws {
        try await withTestDatabase { database in
            var settings = HandlerSettings()
            settings.circuit.consecutiveFailures = 3
            settings.circuit.suspendsWorkers = false
            settings.retry.base = .milliseconds(10)
            settings.retry.cap = .milliseconds(10)
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { _, _ in .failed(JobFailure("broken", "it is broken")) },
                settings: settings
            )
            try await database.withWorker([handler]) {
                try await waitUntil("it is registered") { try await database.count("worker") == 1 }
                // Several tables are locked one after the other, so the server may find a deadlock with the leader, as for
                // any user who does this.
                try await waitUntil("the tables are empty") {
                    let error = await postgresError { try await database.query("truncate breakwater.\(tables)") }
                    if let error, error.sqlState != "40P01" { throw error }
                    return error == nil
                }
                try await waitUntil("the rows are back") {
                    try await database.number(
                        """
                        select (select count(*) from breakwater.handler) + (select count(*) from breakwater.circuit)
                               + (select count(*) from breakwater.lane)
                        """
                    ) == 12
                }
                try await database.insert(5)
                try await waitUntil("the circuit opens") {
                    try await database.number(
                        "select count(*) from breakwater.circuit_transition where to_state = 'open'"
                    ) > 0
                }
                #expect(try await database.count("dead_letter") == 0)
            }
        }
    }

    @Test("a job of a kind without a handler's row does not die on its first failure")
    func missingHandler() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(1)
            try await database.query("delete from breakwater.handler")
            for attempt in 1...19 {
                #expect(try await worker.runOne(.failed()))
                #expect(try await database.number("select attempt from breakwater.job") == attempt)
            }
            #expect(try await worker.runOne(.failed()))
            #expect(try await database.text("select reason from breakwater.dead_letter") == "exhausted")
        }
    }

    @Test("when a lane is put back, its running jobs are not claimed again, and its waiting jobs are")
    func lanePutBack() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(10)
            // Job 1 waits at a position before the jobs that run.
            try await database.query("update breakwater.job set run_at = now() + interval '1 hour' where id = 1")
            let jobs = try await worker.claim(5)
            #expect(jobs.map(\.id) == [2, 3, 4, 5, 6])
            try await database.query("alter table breakwater.job disable trigger record_move")
            try await database.query("update breakwater.job set run_at = null, position = 1 where id = 1")
            try await database.query("truncate breakwater.lane")
            #expect(try await worker.claim().isEmpty)
            try await worker.renewRegistration()
            #expect(try await worker.claim().map(\.id) == [7, 8, 9, 10])
            #expect(try await worker.query("select breakwater.return_stranded(1000)")[0][0].int() == 1)
            #expect(try await worker.claim().map(\.id) == [1])
            #expect(try await worker.settle(jobs).settled == 5)
        }
    }

    @Test("a result is kept although its handler's row is gone")
    func keepsResult() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.keepResults = .seconds(3600) }
            try await database.insert(1)
            let jobs = try await worker.claim()
            try await database.query("delete from breakwater.handler")
            try await worker.settle(jobs, .init(outcomeClass: .succeeded, result: #"{"answer": 42}"#))
            #expect(try await database.text("select result from breakwater.result") == #"{"answer": 42}"#)
        }
    }

    @Test("a job without a handler's row may run as often as the default allows")
    func defaultAttempts() async throws {
        try await withTestDatabase { database in
            let attempts = try await database.number("select breakwater.default_max_attempts()")
            #expect(attempts == HandlerSettings().retry.maxAttempts)
        }
    }

    @Test("renewing changes no policy that another worker has registered since")
    func keepsNewerPolicies() async throws {
        try await withTestDatabase { database in
            let old = try await HandWorker(database, ["k", "other"])
            _ = try await HandWorker(database) { $0.retry.maxAttempts = 7 }
            try await database.query("delete from breakwater.handler where kind = 'other'")
            #expect(try await !old.beat().isRegistered)
            try await old.renewRegistration()
            #expect(try await old.beat().isRegistered)
            let attempts = "select max_attempts from breakwater.handler where kind = $1"
            #expect(try await database.number(attempts, [.text("k")]) == 7)
            #expect(try await database.number(attempts, [.text("other")]) == 20)
        }
    }

    @Test("the curves of the dashboard continue when the row of their horizon is gone")
    func rateHorizon() async throws {
        try await withTestDatabase { database in
            try await database.query("delete from breakwater.rate_horizon")
            try await HandWorker(database).maintain()
            #expect(try await database.count("rate_horizon") == 1)
        }
    }
}
