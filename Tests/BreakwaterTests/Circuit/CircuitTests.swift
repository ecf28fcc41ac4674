import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("A circuit", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct CircuitTests {
    @Test("below its minimum of calls never trips, and at it the rate decides, threshold included")
    func minimum() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            try await bench.run(.failed(), .failed(), .failed())
            #expect(try await bench.state == "closed")
            // Now 4 of 4 calls have failed.
            try await bench.run(.failed())
            #expect(try await bench.state == "open")
        }
    }

    @Test("below its threshold does not trip")
    func belowThreshold() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            try await bench.run(.succeeded, .succeeded, .succeeded, .failed(), .failed())
            #expect(try await bench.state == "closed")
            // Now 3 of 6 calls have failed, which is at the threshold.
            try await bench.run(.failed())
            #expect(try await bench.state == "open")
        }
    }

    @Test("at exactly a threshold that binary fractions miss, trips")
    func exactThreshold() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database) {
                $0.failureRate = 0.07
                $0.minimumCalls = 100
            }
            try await database.insert(93)
            try await bench.worker.settle(try await bench.worker.claim(93))
            try await bench.run(.failed(), .failed(), .failed(), .failed(), .failed(), .failed())
            #expect(try await bench.state == "closed")
            try await bench.run(.failed())
            #expect(try await bench.state == "open")
        }
    }

    @Test("forgets calls that have left its window")
    func window() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database) { $0.window = .time(.seconds(10)) }
            try await bench.run(.failed(), .failed(), .failed())
            bench.worker.setClock(11)
            try await bench.run(.failed(), .failed(), .failed())
            #expect(try await bench.state == "closed")
            bench.worker.setClock(12)
            try await bench.run(.failed())
            #expect(try await bench.state == "open")
        }
    }

    @Test("trips on failures in a row, which a success interrupts")
    func consecutive() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database) {
                $0.failureRate = nil
                $0.consecutiveFailures = 3
            }
            try await bench.run(.failed(), .failed(), .succeeded, .failed(), .failed())
            #expect(try await bench.state == "closed")
            bench.worker.setClock(5)
            try await bench.run(.unavailable())
            #expect(try await bench.state == "open")
        }
    }

    @Test("does not see snoozed, released, throttled and discarded runs")
    func ignored() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database) { $0.consecutiveFailures = 2 }
            try await bench.run(.snoozed(), .released, .throttled(), .discarded, .discarded, .discarded)
            #expect(try await bench.state == "closed")
            #expect(try await database.number("select coalesce(sum(failed + succeeded), 0) from breakwater.tally") == 0)
        }
    }

    @Test("that is switched off never trips")
    func disabledByPolicy() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database) { $0.isEnabled = false }
            try await bench.run(.failed(), .failed(), .failed(), .failed(), .failed(), .failed())
            #expect(try await bench.state == "closed")
        }
    }

    @Test("open gives nothing to any worker, and no waiting job's attempts move")
    func open() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            let other = try await CircuitBench(database).worker
            try await bench.trip()
            try await database.query("delete from breakwater.job")
            try await database.insert(50)
            other.setClock(1)
            for worker in [bench.worker, other] { #expect(try await worker.claim().isEmpty) }
            #expect(try await database.number("select max(attempt) from breakwater.job") == 0)
            let row = try await database.query("select state, why from breakwater.job_status limit 1")[0]
            #expect(try row[0].string() == "circuit_open")
            #expect(try row[1].string().contains("4 of 4 calls failed"))
            #expect(
                try await database.number("select waiting::int8 from breakwater.circuit_status where kind = 'k'") == 50
            )
        }
    }

    @Test("becomes half-open by time alone, without a claim")
    func halfOpenByTime() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            try await bench.trip()
            try await database.query("delete from breakwater.job")
            let open = try await bench.openTime
            bench.worker.setClock(open - 0.01)
            #expect(try await bench.worker.maintain().advanced == 0)
            bench.worker.setClock(open + 0.01)
            #expect(try await bench.worker.maintain().advanced == 1)
            #expect(try await bench.state == "half_open")
        }
    }

    @Test("half-open admits exactly the configured number of probes, however many sessions ask at once")
    func exactlyN() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database) { $0.probes = 3 }
            try await bench.trip()
            try await database.insert(100)
            let workers = try await withThrowingTaskGroup(of: HandWorker.self) { group in
                for _ in 0..<20 {
                    group.addTask {
                        let worker = try await HandWorker(database) { $0.circuit.probes = 3 }
                        worker.setClock(11)
                        return worker
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            // The open time is over, so the first claim makes the circuit half-open.
            let probes = try await withThrowingTaskGroup(of: [Job].self) { group in
                for worker in workers {
                    group.addTask {
                        var jobs: [Job] = []
                        for _ in 0..<3 { jobs += try await worker.claim(5) }
                        return jobs
                    }
                }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            #expect(probes.count == 3)
            #expect(probes.allSatisfy { $0.isProbe })
            #expect(Set(probes.map(\.id)).count == 3)
            #expect(try await database.count("probe") == 3)
            #expect(try await bench.history == ["2 closed→open", "3 open→half_open"])
        }
    }

    @Test("closes after k successes, not before, and forgets its failures")
    func closes() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            try await bench.halfOpen()
            try await bench.run(.succeeded)
            #expect(try await bench.state == "half_open")
            try await bench.run(.succeeded)
            #expect(try await bench.state == "closed")
            #expect(try await database.number("select reopened from breakwater.circuit where kind = 'k'") == 0)
            try await bench.run(.failed(), .failed(), .failed())
            #expect(try await bench.state == "closed")
            #expect(try await bench.history == ["2 closed→open", "3 open→half_open", "4 half_open→closed"])
        }
    }

    @Test("re-opens for longer each time a probe fails, within its jitter's bounds and below its cap, and starts over")
    func reopens() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database) { $0.successesToClose = 1 }
            try await bench.trip()
            try await database.insert()
            var clock = 0.0
            for (reopened, longest) in [10.0, 20, 40, 80, 100, 100, 100].enumerated() {
                let open = try await bench.openTime
                #expect(open >= longest / 2 && open <= longest, "\(reopened): \(open)")
                #expect(
                    try await database.number("select reopened from breakwater.circuit where kind = 'k'") == reopened
                )
                clock += open + 0.001
                bench.worker.setClock(clock)
                #expect(try await bench.worker.runOne(.unavailable()))
                #expect(try await bench.state == "open")
            }
            // 2^31 re-openings later, the open time is still the cap.
            try await database.query(
                "update breakwater.circuit set reopened = 2147483646, state = 'half_open', retry_at = null"
            )
            try await bench.worker.runOne(.failed())
            #expect(try await bench.openTime <= 100)
            clock += 101
            bench.worker.setClock(clock)
            try await bench.worker.runOne(.succeeded)
            #expect(try await bench.state == "closed")
            // A relapse keeps the count of re-openings. If the circuit was closed for as long as it was open, a new
            // outage starts over.
            let openFor = clock
            try await database.query("update breakwater.circuit set reopened = 2")
            bench.worker.setClock(clock + openFor - 1)
            try await bench.trip()
            #expect((40...80).contains(try await bench.openTime))
            clock += openFor + 100
            bench.worker.setClock(clock)
            try await bench.run(.succeeded)
            #expect(try await bench.state == "closed")
            bench.worker.setClock(clock + 10_000)
            try await bench.trip()
            #expect((5...10).contains(try await bench.openTime))
        }
    }

    @Test("a probe that is unavailable has its attempt handed back")
    func probeAttempt() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            try await bench.halfOpen()
            try await database.query("delete from breakwater.job")
            try await bench.run(.unavailable(), .unavailable())
            #expect(try await bench.state == "open")
            #expect(try await database.number("select max(attempt) from breakwater.job") == 0)
            #expect(try await database.number("select min(handed_back) from breakwater.job") == 1)
            // The attempt is not charged later, because the next round judges its own probes.
            try await bench.worker.maintain()
            #expect(try await database.number("select count(*) from breakwater.probe_result where is_pending") == 0)
            #expect(try await database.number("select max(attempt) from breakwater.job") == 0)
        }
    }

    @Test(
        "an ignored probe frees exactly its own permit, and decides nothing",
        arguments: [FinishedRun.Ending.snoozed(.seconds(60)), .released, .discarded, .throttled(delay: .seconds(60))]
    )
    func ignoredProbe(ending: FinishedRun.Ending) async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            try await bench.halfOpen()
            try await database.query("delete from breakwater.job")
            try await database.insert(10)
            let probes = try await bench.worker.claim()
            #expect(probes.count == 2)
            #expect(try await bench.worker.claim().isEmpty)
            try await bench.worker.settle([probes[0]], ending)
            #expect(try await bench.state == "half_open")
            #expect(try await bench.worker.claim().count == 1)
            #expect(try await bench.worker.claim().isEmpty)
            // Good probes that follow still close the circuit.
            try await bench.worker.settle([probes[1]])
            try await bench.worker.runOne(.succeeded)
            #expect(try await bench.state == "closed")
        }
    }

    @Test("a probe whose worker dies is replaced, by the rescue at once and by its expiry at the latest")
    func deadProbe() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            let dead = try await CircuitBench(database).worker
            try await bench.halfOpen()
            dead.setClock(11)
            try await database.insert(10)
            #expect(try await dead.claim().count >= 1)
            let taken = try await database.count("probe")
            try await database.query(
                "update breakwater.worker set beat_at = now() - interval '1 hour' where id = \(dead.id)"
            )
            try await bench.worker.maintain()
            #expect(try await database.count("probe") == 0)
            #expect(try await bench.worker.claim().count == taken)
            #expect(try await bench.worker.claim().isEmpty)
            // The probe's lease ends a minute after the handler's timeout, no matter which worker holds the job.
            bench.worker.setClock(11 + 60 + 61)
            #expect(try await bench.worker.claim().count == taken)
        }
    }

    @Test("a late result of an earlier generation is tallied, and moves nothing")
    func lateResults() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            try await database.insert(4)
            let late = try await bench.worker.claim()
            try await bench.trip()
            let (opened, generation) = (try await bench.openTime, try await bench.generation)
            // Late failures neither lengthen the open time nor re-open the circuit, and late successes do not close it.
            try await bench.worker.settle([late[0]], .failed())
            #expect(try await bench.openTime == opened)
            bench.worker.setClock(11)
            try await bench.worker.maintain()
            #expect(try await bench.state == "half_open")
            try await bench.worker.settle([late[1]], .failed())
            try await bench.worker.settle([late[2], late[3]])
            #expect(try await bench.state == "half_open")
            #expect(try await bench.generation == generation + 1)
            #expect(
                try await database.number(
                    "select sum(succeeded) from breakwater.tally where generation = 1 and key = ''"
                ) == 2
            )
        }
    }

    @Test("keeps its state when every worker starts anew")
    func survivesRestart() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            try await bench.trip()
            _ = try await bench.worker.call(Leave(worker: bench.worker.id))
            let next = try await CircuitBench(database)
            #expect(try await next.state == "open")
            try await database.insert()
            #expect(try await next.worker.claim().isEmpty)
        }
    }

    @Test("of one kind does not concern the others")
    func otherKinds() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            let other = try await CircuitBench(database, kinds: ["k", "other"]).worker
            try await bench.trip()
            other.setClock(0)
            try await database.insert(5, kind: "other")
            #expect(try await other.claim().map(\.kind) == Array(repeating: "other", count: 5))
        }
    }

    @Test("trips on slow calls alone, and a slow probe re-opens it")
    func slowCalls() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database) {
                $0.failureRate = nil
                $0.slowCall = .seconds(1)
                $0.slowRate = 1
            }
            var slow = FinishedRun.Ending.succeeded
            slow.isSlow = true
            try await bench.run(slow, slow, slow)
            #expect(try await bench.state == "closed")
            try await bench.run(slow)
            #expect(try await bench.state == "open")
            try await bench.worker.failFirstChecks()
            bench.worker.setClock(11)
            try await bench.run(slow, slow)
            #expect(try await bench.state == "open")
            #expect(try await database.number("select reopened from breakwater.circuit where kind = 'k'") == 1)
        }
    }

    @Test("with a window of the last calls forgets the oldest")
    func countWindow() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database) {
                $0.window = .calls(4)
                $0.failureRate = 0.75
            }
            try await bench.run(.failed(), .failed(), .succeeded, .succeeded, .succeeded, .failed(), .failed())
            #expect(try await bench.state == "closed")
            try await bench.run(.failed())
            #expect(try await bench.state == "open")
        }
    }

    @Test("of a key whose jobs are all parked is probed and closes, though no new job comes")
    func parkedKey() async throws {
        try await withTestDatabase { database in
            let down = Door()
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { _, _ in
                    // The dependency is down until the door is opened. The handler does not wait at the door.
                    if down.isOpen { .succeeded() } else { .unavailable(JobFailure("down", "it is down")) }
                },
                settings: {
                    var settings = HandlerSettings()
                    settings.retry.base = .milliseconds(10)
                    settings.retry.cap = .milliseconds(10)
                    settings.retry.maxAttempts = 1000
                    settings.circuit.key = .path(["host"])
                    settings.circuit.consecutiveFailures = 3
                    settings.circuit.suspendsWorkers = false
                    settings.circuit.openFor = .seconds(14)
                    settings.circuit.openCap = .seconds(14)
                    settings.circuit.ramp = .zero
                    return settings
                }()
            )
            try await database.query(
                #"insert into breakwater.job (kind, payload) select 'k', '{"host": "a"}' from generate_series(1, 10)"#
            )
            try await database.withWorker([handler]) {
                try await waitUntil("all are parked") {
                    try await database.number("select count(*) from breakwater.job where parked is not null") == 10
                }
                down.open()
                try await waitUntil("all end") { try await database.count("job") == 0 }
            }
        }
    }
}
