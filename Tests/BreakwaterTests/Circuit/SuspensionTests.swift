import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("A broken worker among others", .enabled(if: TestDatabase.isAvailable, Comment(rawValue: needsServer)))
struct SuspensionTests {
    @Test("one of five is suspended, for longer each time, until a success; the fleet's circuit stays closed")
    func oneOfFive() async throws {
        try await withTestDatabase { database in
            var fleet: [HandWorker] = []
            for _ in 0..<5 {
                fleet.append(
                    try await HandWorker(database) { settings in
                        settings.circuit.consecutiveFailures = 5
                        settings.circuit.minimumCalls = 5
                        settings.circuit.openFor = .seconds(60)
                        settings.circuit.openCap = .seconds(600)
                    }
                )
            }
            let broken = fleet[2]
            try await database.insert(1000)
            /// Lets every worker claim and run jobs for one second.
            func second(_ time: Double) async throws {
                for (index, worker) in fleet.enumerated() {
                    worker.setClock(time + Double(index) * 0.1)
                    let ending = worker.id == broken.id ? FinishedRun.Ending.failed(delay: .seconds(3600)) : .succeeded
                    try await worker.settle(try await worker.claim(2), ending)
                }
            }
            for time in 0..<8 { try await second(Double(time)) }
            let suspended = "select count(*) from breakwater.suspension where times > 0 and worker = \(broken.id)"
            #expect(try await database.number(suspended) == 1)
            #expect(try await database.number("select count(*) from breakwater.suspension") == 1)

            var lengths: [Double] = []
            var time = 10.0
            for round in 1...4 {
                #expect(try await broken.claim(10).isEmpty)
                let row = try await database.query(
                    """
                    select times, extract(epoch from until - '2030-01-01'::timestamptz)::float8,
                           extract(epoch from until - since)::float8
                      from breakwater.suspension
                    """
                )
                #expect(try row[0][0].int() == round)
                let until = try row[0][1].double()
                lengths.append(until - time)
                // The worker's own heartbeat reports the suspension too, by the same clock.
                let stopped = try await broken.call(Beat(worker: broken.id, isDraining: false, running: 0))
                    .stopped
                #expect(stopped["k"] == Int64.max)
                time = until + 1
                for worker in fleet where worker.id != broken.id {
                    worker.setClock(time)
                    try await worker.settle(try await worker.claim(2))
                }
                broken.setClock(time + 0.5)
                let trial = try await broken.claim(1000)
                #expect(trial.count == 1, "one at a time, after a suspension")
                if round < 4 {
                    for worker in fleet where worker.id != broken.id {
                        worker.setClock(time + 2)
                        try await worker.settle(try await worker.claim(2))
                    }
                    broken.setClock(time + 1.5)
                    try await broken.settle(trial, .failed(delay: .seconds(3600)))
                    time += 1.5
                } else {
                    try await broken.settle(trial)
                }
            }
            // The suspensions last 60, 120, 240 and 480 seconds, and half of each is random.
            for (index, length) in lengths.enumerated().dropFirst() {
                let longest = 60.0 * Double(1 << index)
                #expect((longest / 2...longest + 1).contains(length), "suspension \(index + 1): \(length) s")
            }
            #expect(try await database.number("select count(*) from breakwater.suspension") == 0)
            #expect(try await database.text("select state from breakwater.circuit where kind = 'k'") == "closed")
            #expect(try await database.count("circuit_transition") == 0)
        }
    }

    @Test("the job of a handler whose own breaker is open is snoozed, and pays no attempt")
    func breakerInsideHandler() async throws {
        try await withTestDatabase { database in
            let breaker = try CircuitBreaker(name: "dependency")
            breaker.force(.open, reason: "test", for: .seconds(3600))
            let handler = ClosureHandler { _, _ in
                try await breaker.call {}
                return .succeeded()
            }
            try await database.insert()
            try await database.withWorker([HandlerRegistration(kind: "k", plugin: handler)]) {
                try await waitUntil("the job is snoozed") {
                    try await database.number("select count(*) from breakwater.job where run_at > now()") == 1
                }
            }
            #expect(try await database.number("select attempt from breakwater.job") == 0)
            let wait = "select extract(epoch from run_at - now())::int from breakwater.job"
            #expect((3500...3600).contains(try await database.number(wait)))
            #expect(try await database.text("select coalesce(sum(failed), 0)::text from breakwater.tally") == "0")
        }
    }
}
