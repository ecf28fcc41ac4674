import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Circuits in depth", .enabled(if: TestDatabase.isAvailable, Comment(rawValue: needsServer)))
struct CircuitDepthTests {
    private func state(_ database: TestDatabase, _ kind: String = "k") async throws -> String {
        try await database.query("select state from breakwater.circuit where kind = $1", [.text(kind)])[0][0].string()
    }

    @Test("a failure that trips opens it at once, and Retry-After sets for how long, up to the cap")
    func tripsAtOnce() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { settings in
                settings.circuit.openFor = .seconds(10)
                settings.circuit.openCap = .seconds(300)
                settings.circuit.suspendsWorkers = false
            }
            worker.setClock(0)
            for (retryAfter, least, most) in [(100.0, 100.0, 100.0), (9999.0, 300.0, 300.0), (1.0, 5.0, 10.0)] {
                try await database.insert()
                var ending = FinishedRun.Ending.failed("http.503", delay: .seconds(60))
                ending.effect = .tripped
                ending.retryAfter = .seconds(retryAfter)
                try await worker.settle(try await worker.claim(1), ending)
                #expect(try await state(database) == "open")
                let open = try await database.query(
                    "select extract(epoch from retry_at - since)::float8 from breakwater.circuit where kind = 'k'"
                )
                let seconds = try open[0][0].double()
                #expect((least...most).contains(seconds.rounded()))
                try await database.query("select breakwater.reset_circuit('k', 'test')")
            }
        }
    }

    @Test("slow calls alone open it, and a slow probe re-opens it")
    func slowCalls() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { settings in
                settings.circuit.failureRate = nil
                settings.circuit.consecutiveFailures = nil
                settings.circuit.slowCall = .seconds(1)
                settings.circuit.slowRate = 0.5
                settings.circuit.minimumCalls = 4
                settings.circuit.openFor = .seconds(10)
                settings.circuit.suspendsWorkers = false
            }
            worker.setClock(0)
            try await database.insert(10)
            let slow = FinishedRun.Ending(outcomeClass: .succeeded, isSlow: true)
            try await worker.settle(try await worker.claim(2))
            try await worker.settle(try await worker.claim(1), slow)
            #expect(try await state(database) == "closed")
            try await worker.settle(try await worker.claim(1), slow)
            #expect(try await state(database) == "open")
            try await worker.failFirstChecks()
            worker.setClock(11)
            try await worker.settle(try await worker.claim(3), slow)
            #expect(try await state(database) == "open")
            #expect(try await database.number("select reopened from breakwater.circuit where kind = 'k'") == 1)
        }
    }

    @Test("after closing, a worker's share of its concurrency grows over the ramp")
    func ramps() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { settings in
                settings.circuit.consecutiveFailures = 1
                settings.circuit.openFor = .seconds(10)
                settings.circuit.successesToClose = 1
                settings.circuit.ramp = .seconds(100)
                settings.circuit.suspendsWorkers = false
            }
            worker.setClock(0)
            try await database.insert(3000)
            try await worker.settle(try await worker.claim(1), .failed(delay: .seconds(60)))
            try await worker.failFirstChecks()
            worker.setClock(10)
            try await worker.settle(try await worker.claim(1))
            #expect(try await state(database) == "closed")
            // This worker claims with a concurrency of 1000, and with room for all that it asks for.
            #expect(try await worker.claim(1000).count == 100)
            worker.setClock(60)
            #expect(try await worker.claim(1000).count == 500)
            // Half of its concurrency is already running.
            #expect(try await worker.claim(500).isEmpty)
            worker.setClock(111)
            #expect(try await worker.claim(1000).count == 1000)
        }
    }

    @Test("a circuit that is half-open without a decision for too long re-opens")
    func halfOpenForTooLong() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { settings in
                settings.circuit.consecutiveFailures = 1
                settings.circuit.openFor = .seconds(10)
                settings.circuit.halfOpenFor = .seconds(30)
                settings.circuit.suspendsWorkers = false
            }
            worker.setClock(0)
            try await database.insert(3)
            try await worker.settle(try await worker.claim(1), .failed(delay: .seconds(60)))
            worker.setClock(10)
            #expect(try await worker.claim(1).count == 1)
            worker.setClock(41)
            _ = try await worker.query("select breakwater.advance_circuits()")
            #expect(try await state(database) == "open")
        }
    }

    @Test("metrics-only lets everything run and says once what it would have done; disabled counts nothing")
    func observes() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.circuit.consecutiveFailures = 2 }
            try await database.insert(100)
            try await database.query("select breakwater.observe_circuit('k', 'trying thresholds', actor => 'ann')")
            for _ in 0..<5 { try await worker.settle(try await worker.claim(5), .failed(delay: .seconds(60))) }
            #expect(try await state(database) == "closed")
            let said = "select count(*) from breakwater.circuit_transition where reason like 'would have opened%'"
            #expect(try await database.number(said) == 1)

            try await database.query("select breakwater.disable_circuit('k', 'enough')")
            try await worker.settle(try await worker.claim(5), .failed(delay: .seconds(60)))
            #expect(try await state(database) == "closed")
            let tallies = """
                select count(*) from breakwater.tally t join breakwater.circuit c
                    on c.kind = t.kind and c.key = t.key and c.generation = t.generation
                """
            #expect(try await database.number(tallies) == 0)
        }
    }

    @Test("reroutes waiting jobs to another kind while open, and refuses a circle")
    func reroutes() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["k"]) { $0.circuit.fallback = .reroute(kind: "other") }
            _ = try await HandWorker(database, ["other"])
            try await database.insert(10)
            try await database.query("select breakwater.open_circuit('k', 'test')")
            try await worker.maintain()
            #expect(try await database.number("select count(*) from breakwater.job where kind = 'other'") == 10)
            let refusal = await postgresError {
                _ = try await HandWorker(database, ["other"]) { $0.circuit.fallback = .reroute(kind: "k") }
            }
            #expect(refusal?.message.contains("circle") == true)
        }
    }

    /// Two workers with jobs to run. Their circuit opens after five failures in a row, or when half of at least five
    /// calls have failed.
    private func wellAndBroken(_ database: TestDatabase) async throws -> (well: HandWorker, broken: HandWorker) {
        func rules(_ settings: inout HandlerSettings) {
            settings.circuit.consecutiveFailures = 5
            settings.circuit.minimumCalls = 5
            settings.circuit.openFor = .seconds(60)
        }
        let well = try await HandWorker(database, settings: rules)
        let broken = try await HandWorker(database, settings: rules)
        try await database.insert(200)
        return (well, broken)
    }

    /// Lets each worker claim three jobs. The jobs of `broken` fail, and half a second later those of `well` succeed.
    private func runThreeEach(_ well: HandWorker, _ broken: HandWorker, second: Double) async throws {
        broken.setClock(second)
        try await broken.settle(try await broken.claim(3), .failed(delay: .seconds(60)))
        well.setClock(second + 0.5)
        try await well.settle(try await well.claim(3))
    }

    @Test("one broken worker of several is suspended; the fleet's circuit stays closed")
    func suspends() async throws {
        try await withTestDatabase { database in
            let (well, broken) = try await wellAndBroken(database)
            for second in 0..<3 { try await runThreeEach(well, broken, second: Double(second)) }
            #expect(try await state(database) == "closed")
            #expect(try await database.number("select count(*) from breakwater.suspension") == 1)
            #expect(try await broken.claim(5).isEmpty)
            #expect(try await well.claim(5).count == 5)
            // Afterwards the worker gets one job at a time, even if it keeps room for other kinds. A failure suspends
            // it for longer, and a success ends the suspension.
            broken.setClock(100)
            let trial = try await broken.claim(500)
            #expect(trial.count == 1)
            #expect(try await broken.claim(500).isEmpty)
            try await broken.settle(trial, .failed(delay: .seconds(60)))
            #expect(try await database.number("select times from breakwater.suspension") == 2)
            broken.setClock(1000)
            try await broken.settle(try await broken.claim(1000))
            #expect(try await database.number("select count(*) from breakwater.suspension") == 0)
        }
    }

    @Test("the calls of a suspended worker do not count for the fleet's circuit")
    func suspendedWorkersCallsDoNotCount() async throws {
        try await withTestDatabase { database in
            let (well, broken) = try await wellAndBroken(database)
            for second in 0..<3 { try await runThreeEach(well, broken, second: Double(second)) }
            #expect(try await database.number("select count(*) from breakwater.suspension where times = 1") == 1)
            // After three failures, 3 of the healthy worker's 12 calls have failed. With the suspended worker's calls,
            // 9 of 18 would have failed, which is enough to open the circuit.
            well.setClock(3.5)
            let jobs = try await well.claim(3)
            #expect(jobs.count == 3)
            try await well.settle(jobs, .failed(delay: .seconds(60)))
            #expect(try await state(database) == "closed")
        }
    }

    @Test("runs that fail after their worker was suspended do not make the suspension longer")
    func lateFailuresDoNotProlongASuspension() async throws {
        try await withTestDatabase { database in
            let (well, broken) = try await wellAndBroken(database)
            try await runThreeEach(well, broken, second: 0)
            broken.setClock(1)
            let jobs = try await broken.claim(6)
            #expect(jobs.count == 6)
            try await broken.settle(Array(jobs.prefix(3)), .failed(delay: .seconds(60)))
            let suspension = "select times || ' ' || until from breakwater.suspension"
            let before = try await database.text(suspension)
            #expect(before.hasPrefix("1 "))
            broken.setClock(1.1)
            let late = try await broken.settle(Array(jobs.dropFirst(3)), .failed(delay: .seconds(60)))
            #expect(late.settled == 3)
            #expect(try await database.text(suspension) == before)
        }
    }

    @Test("while it is too early to judge, the failing worker waits; when the others fail too, the circuit opens")
    func waitsToSee() async throws {
        try await withTestDatabase { database in
            func rules(_ settings: inout HandlerSettings) {
                settings.circuit.consecutiveFailures = 5
                settings.circuit.minimumCalls = 50
            }
            let one = try await HandWorker(database, settings: rules)
            let other = try await HandWorker(database, settings: rules)
            try await database.insert(200)
            one.setClock(0)
            other.setClock(0)
            try await other.settle(try await other.claim(5))
            one.setClock(0.5)
            try await one.settle(try await one.claim(5), .failed(delay: .seconds(60)))
            #expect(try await state(database) == "closed")
            #expect(try await one.claim(1000).isEmpty)
            #expect(try await database.number("select times from breakwater.suspension") == 0)
            other.setClock(0.6)
            try await other.settle(try await other.claim(5), .failed(delay: .seconds(60)))
            #expect(try await state(database) == "open")
            #expect(try await database.number("select count(*) from breakwater.suspension") == 0)
        }
    }

    @Test("a worker that is alone has nothing to compare with: the fleet's rule applies at once")
    func aloneTheFleetRules() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.circuit.consecutiveFailures = 5 }
            try await database.insert(5)
            try await worker.settle(try await worker.claim(5), .failed(delay: .seconds(60)))
            #expect(try await state(database) == "open")
        }
    }
}
