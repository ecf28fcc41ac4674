import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

/// One chosen job that a user sends through an open circuit or a pause.
@Suite("Test shots", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct TestShotTests {
    private func worker(_ database: TestDatabase, _ fallback: CircuitPolicy.Key? = nil) async throws -> HandWorker {
        let worker = try await HandWorker(database) { settings in
            settings.circuit.consecutiveFailures = 3
            settings.circuit.suspendsWorkers = false
            settings.circuit.key = fallback
            settings.retry.maxAttempts = 100
        }
        worker.setClock(0)
        return worker
    }

    private func open(_ worker: HandWorker, _ database: TestDatabase) async throws {
        try await database.insert(3)
        try await worker.settle(try await worker.claim(), .failed(delay: .seconds(600)))
        try await worker.failFirstChecks()
        #expect(try await state(database) == "open")
    }

    private func state(_ database: TestDatabase) async throws -> String {
        try await database.text("select state from breakwater.circuit where kind = 'k' and key = ''")
    }

    private func lastJob(_ database: TestDatabase) async throws -> Int64 {
        Int64(try await database.number("select max(id) from breakwater.job"))
    }

    @Test("one job alone is let through, and its failure leaves the circuit open and costs it nothing")
    func fails() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await open(worker, database)
            try await database.insert(10)
            let id = try await lastJob(database)
            #expect(try await worker.claim().isEmpty)
            #expect(
                try await worker.query("select breakwater.run_through($1, 'is it back?', 'ann')", [.int8(id)])[0][0]
                    .bool()
            )
            let shot = try await worker.claim()
            #expect(shot.map(\.id) == [id])
            #expect(shot[0].isProbe)
            #expect(try await worker.claim().isEmpty)
            try await worker.settle(shot, .unavailable("http.503", delay: .seconds(60)))
            #expect(try await state(database) == "open")
            let result = try await database.texts(
                "select job || ' ' || outcome || ' ' || name from breakwater.probe_result"
            )
            #expect(result == ["\(id) unavailable http.503"])
            try await worker.maintain()
            #expect(try await database.number("select attempt from breakwater.job where id = \(id)") == 0)
            let audit = try await database.texts("select actor || ' ' || action || ' ' || reason from breakwater.audit")
            #expect(audit == ["ann job.run_through is it back?"])
        }
    }

    @Test("its success begins the round of probes, and counts as the first of them")
    func succeeds() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await open(worker, database)
            try await database.insert(10)
            let id = try await lastJob(database)
            try await worker.query("select breakwater.run_through($1)", [.int8(id)])
            try await worker.settle(try await worker.claim())
            #expect(try await state(database) == "half_open")
            #expect(try await database.number("select successes from breakwater.circuit where kind = 'k'") == 1)
            try await worker.settle(Array(try await worker.claim().prefix(2)))
            #expect(try await state(database) == "closed")
        }
    }

    @Test("a circuit that a user holds open stays open, and a pause does not stop the job")
    func heldAndPaused() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await database.insert(2)
            try await worker.query("select breakwater.open_circuit('k', 'maintenance')")
            try await worker.query("select breakwater.pause_kind('k', 'maintenance')")
            try await worker.query("select breakwater.run_through(1)")
            let shot = try await worker.claim()
            #expect(shot.map(\.id) == [1])
            try await worker.settle(shot)
            #expect(try await state(database) == "open")
            #expect(try await database.count("job") == 1)
        }
    }

    @Test("a parked job goes through the circuit of its key")
    func parked() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database, .path(["host"]))
            let insert =
                "insert into breakwater.job (kind, payload) select 'k', '{\"host\": \"a\"}' from generate_series(1, 3)"
            try await database.query(insert)
            try await worker.settle(try await worker.claim(), .failed(delay: .seconds(600)))
            try await worker.failFirstChecks()
            try await database.query(insert)
            #expect(try await worker.claim().isEmpty)
            try await worker.query("select breakwater.run_through(5)")
            let shot = try await worker.claim()
            #expect(shot.map(\.id) == [5])
            #expect(shot[0].circuitKey == "a")
            try await worker.settle(shot)
            #expect(try await database.text("select state from breakwater.circuit where key = 'a'") == "half_open")
        }
    }

    @Test("is refused without a worker and for a running job, and the job is put back if no worker claims it")
    func refusals() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await database.insert(2)
            try await database.insert(1, kind: "nobody")
            let error = await #expect(throws: PostgresError.self) {
                try await worker.query("select breakwater.run_through(3)")
            }
            #expect(error?.sqlState == "22023")
            let held = try await worker.claim(1)
            #expect(
                try await worker.query("select breakwater.run_through($1)", [.int8(held[0].id)])[0][0].bool() == false
            )
            try await worker.query("select breakwater.pause_kind('k', 'maintenance')")
            try await worker.query("select breakwater.run_through(2)")
            try await database.query("update breakwater.test_shot set at = at - interval '2 minutes'")
            try await worker.maintain()
            #expect(try await database.count("test_shot") == 0)
            #expect(try await database.text("select state from breakwater.job_status where id = 2") == "paused")
        }
    }
}
