import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("An adaptive limit", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct AdaptiveTests {
    /// A dependency that serves `capacity` calls at once, each in `time` seconds. More calls wait for each other. If it
    /// can fall over, more than one and a half times its capacity makes it slower for everyone.
    struct Server {
        var capacity: Double
        var time = 0.1
        var fallsOver = false

        /// Calls a second, and the latency.
        func answer(_ running: Double) -> (throughput: Double, latency: Double) {
            if fallsOver, running > 1.5 * capacity {
                let throughput = 0.3 * capacity / time
                return (throughput, running / throughput)
            }
            return (min(running, capacity) / time, time * max(1, running / capacity))
        }
    }

    enum Course: CaseIterable {
        case steady, halved, fivefold, sawtooth, slower, quicker, fallsOver

        func server(at second: Int) -> Server {
            switch self {
            case .steady: Server(capacity: 50)
            case .halved: Server(capacity: second < 60 ? 60 : 30)
            case .fivefold: Server(capacity: second < 60 ? 20 : 100)
            case .sawtooth: Server(capacity: [80, 20, 50, 120][second / 40 % 4])
            case .slower: Server(capacity: 50, time: second < 60 ? 0.1 : 0.2)
            case .quicker: Server(capacity: 50, time: second < 60 ? 0.2 : 0.1)
            case .fallsOver: Server(capacity: second < 60 ? 50 : 25, fallsOver: true)
            }
        }
    }

    @Test(
        "reaches at least 0.8 of the best fixed limit's throughput, at less than twice its latency",
        arguments: Course.allCases
    )
    func simulation(_ course: Course) async throws {
        try await withTestDatabase { database in
            var random = SystemRandomNumberGenerator()
            var state = try await database.text("select breakwater.first_adaptation(2, 200)::text")
            var (done, best, latencies) = (0.0, 0.0, 0.0)
            for second in 0..<160 {
                let server = course.server(at: second)
                let allowed = try await database.query(
                    "select floor((($1)::breakwater.adaptation).allowed)",
                    [.text(state)]
                )[0][0].double()
                let answer = server.answer(allowed)
                // What is measured has noise.
                let latency = answer.latency * Double.random(in: 0.93...1.07, using: &random)
                done += answer.throughput
                best += server.capacity / server.time
                latencies += answer.latency / server.time
                state = try await database.query(
                    "select breakwater.adapt($1::breakwater.adaptation, 2, 200, $2, $3, 0)::text",
                    [.text(state), .float8(allowed), .float8(latency)]
                )[0][0].string()
            }
            #expect(done / best >= 0.8, "\(course): \(done / best) of the throughput")
            #expect(latencies / 160 <= 2, "\(course): \(latencies / 160) times the latency")
        }
    }

    @Test("shrinks when calls are throttled, unavailable or slow, and never leaves its bounds")
    func bounds() async throws {
        try await withTestDatabase { database in
            func steps(_ bad: Double, _ latency: Double) async throws -> Double {
                try await database.query(
                    """
                    with recursive s as (
                        select breakwater.first_adaptation(2, 50) as state, 1 as n
                        union all
                        select breakwater.adapt(state, 2, 50, 1000, $2, $1), n + 1 from s where n < 25
                    )
                    select ((state).allowed) from s order by n desc limit 1
                    """,
                    [.float8(bad), .float8(latency)]
                )[0][0].double()
            }
            let (shrunk, grown) = (try await steps(0.5, 0.1), try await steps(0, 0.1))
            #expect(shrunk == 2)
            #expect(grown == 50)
        }
    }

    @Test("obeys lower bounds at once")
    func loweredBounds() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.adapt = 2...200 }
            try await database.query(
                """
                insert into breakwater.adaptive_step (rule, number, state)
                select id, 1, row(150, 0.1, null, null, null, 0)::breakwater.adaptation from breakwater.flow_rule
                """
            )
            let other = try await HandWorker(database) { $0.adapt = 2...20 }
            try await database.insert(200)
            let (first, second) = (try await worker.claim().count, try await other.claim().count)
            #expect(first + second == 20)
        }
    }

    @Test("is checked by claims, takes its steps from settled calls, and starts at half after an outage")
    func endToEnd() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.adapt = 2...100 }
            func allowed() async throws -> Int {
                try await database.number(
                    "select breakwater.adapted_concurrency(r)::int8 from breakwater.flow_rule r where r.type = 'adapt'"
                )
            }
            try await database.insert(200)
            #expect(try await worker.claim().count == 10)
            #expect(
                try await database.text("select why from breakwater.job_status where id = 50")
                    == "the adaptive limit of 'k' lets 10 run at once, and 10 run"
            )
            func settle(_ latency: Double) async throws {
                let measured = [Settle.MeasuredCalls(kind: "k", calls: 20, seconds: 20 * latency)]
                try await worker.call(Settle(worker: worker.id, runs: [], claims: [], measured: measured))
                try await worker.maintain()
            }
            for _ in 1...3 { try await settle(0.1) }
            let grown = try await allowed()
            #expect(grown > 12)
            try await settle(0.5)
            let before = try await allowed()
            #expect(before < grown)
            try await database.query("select breakwater.open_circuit('k', 'test')")
            try await worker.maintain()
            try await database.query("select breakwater.reset_circuit('k', 'test')")
            try await database.query("update breakwater.circuit set since = clock_timestamp() where kind = 'k'")
            try await worker.maintain()
            let after = try await allowed()
            #expect(after == max(2, before / 2))
        }
    }
}
