import BreakwaterTesting
import Foundation
import Libpq
import Synchronization
import Testing

@testable import Breakwater

@Suite("In a fleet of workers,", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct FlowFleetTests {
    /// Runs a body while three workers run these handlers.
    private func withFleet(
        _ database: TestDatabase,
        _ handlers: [HandlerRegistration],
        _ body: @escaping @Sendable () async throws -> Void
    ) async throws {
        try await database.withWorker(handlers) {
            try await database.withWorker(handlers) {
                try await database.withWorker(handlers, body)
            }
        }
    }

    private func handler(
        _ settings: (inout HandlerSettings) -> Void,
        _ run: @escaping @Sendable (Job, JobContext) async throws -> JobOutcome
    ) -> HandlerRegistration {
        var rules = HandlerSettings()
        rules.concurrency = 20
        settings(&rules)
        return HandlerRegistration(kind: "k", plugin: ClosureHandler(run), settings: rules)
    }

    private func waitForAll(_ database: TestDatabase) async throws {
        try await waitUntil("all jobs end") { try await database.count("job") == 0 }
    }

    @Test("no more jobs run at once than a limit says, and as many as it says")
    func concurrency() async throws {
        try await withTestDatabase { database in
            let crowd = Crowd()
            let handlers = [
                handler({ $0.limits = [JobLimit(concurrency: 4)] }) { _, _ in
                    try await crowd.within { try await Task.sleep(for: .milliseconds(3)) }
                    return .succeeded()
                }
            ]
            try await database.insert(400)
            try await withFleet(database, handlers) { try await waitForAll(database) }
            #expect(crowd.most == 4)
        }
    }

    @Test("no more jobs start in any time than a rate and its burst say")
    func rate() async throws {
        try await withTestDatabase { database in
            let starts = Mutex<[MonotonicClock.Instant]>([])
            let handlers = [
                handler({ $0.limits = [JobLimit(rate: .init(200, per: .seconds(1)), burst: 30)] }) { _, _ in
                    starts.withLock { $0.append(.now) }
                    return .succeeded()
                }
            ]
            try await database.insert(500)
            try await withFleet(database, handlers) { try await waitForAll(database) }
            let times = starts.withLock { $0.sorted() }
            #expect(times.count == 500)
            // A start may come late, and then the next ones seem to come early: by half a second on a loaded machine.
            // RateTests has the exact bounds.
            let slack = 100.0
            var worst = 0.0
            for (index, first) in times.enumerated() {
                for last in times.indices where last >= index {
                    let allowed = 200 * (times[last] - first).inSeconds + 30
                    worst = max(worst, Double(last - index + 1) - allowed)
                }
            }
            #expect(worst <= slack, "\(worst) starts too many")
        }
    }

    @Test("jobs of an ordered key never overlap or overtake each other, although some fail and one worker is lost")
    func order() async throws {
        try await withTestDatabase { database in
            struct State {
                var running: [String: Int64] = [:]
                var last: [String: Int64] = [:]
                var faults: [String] = []
            }
            let state = Mutex(State())
            let seed = UInt64.random(in: 1...1000)
            let handlers = [
                handler({
                    $0.order = KeyOrder(by: ["c"])
                    $0.retry.base = .milliseconds(5)
                    $0.retry.cap = .milliseconds(20)
                    $0.circuit.isEnabled = false
                }) { job, _ in
                    let key = job.payload
                    state.withLock { state in
                        if let other = state.running[key] {
                            state.faults.append("\(key): \(job.id) while \(other) runs")
                        }
                        if let last = state.last[key], last > job.id {
                            state.faults.append("\(key): \(job.id) after \(last)")
                        }
                        state.running[key] = job.id
                    }
                    try await Task.sleep(for: .milliseconds(1))
                    let fails =
                        (UInt64(job.id) &* 2_654_435_761 &+ seed + UInt64(job.attempt)) % 5 == 0 && job.attempt < 3
                    state.withLock { state in
                        state.running[key] = nil
                        if !fails { state.last[key] = job.id }
                    }
                    return fails ? .failed(JobFailure("now and then", "it fails")) : .succeeded()
                }
            ]
            try await database.query(
                """
                insert into breakwater.job (kind, payload)
                select 'k', jsonb_build_object('c', g % 25) from generate_series(1, 500) g
                """
            )
            try await withFleet(database, handlers) { try await waitForAll(database) }
            #expect(state.withLock { $0.faults } == [], "seed \(seed)")
            #expect(try await database.count("dead_letter") == 0)
        }
    }

    @Test("an adaptive limit learns how long the calls take")
    func adaptive() async throws {
        try await withTestDatabase { database in
            let handlers = [
                handler({ $0.adapt = 2...50 }) { _, _ in
                    try await Task.sleep(for: .milliseconds(20))
                    return .succeeded()
                }
            ]
            try await database.insert(3000)
            try await withFleet(database, handlers) {
                try await waitUntil("a step with a latency") {
                    try await database.number(
                        "select count(*) from breakwater.adaptive_step where (state).baseline between 0.02 and 60"
                    ) > 0
                }
            }
        }
    }

    @Test("tenants behind a long backlog of another get their share of the slots")
    func share() async throws {
        try await withTestDatabase { database in
            let done = Notes()
            let handlers = [
                handler({ $0.share = ["tenant"] }) { job, _ in
                    try await Task.sleep(for: .milliseconds(2))
                    done.add(job.payload.contains("big") ? "big" : "small")
                    return .succeeded()
                }
            ]
            try await database.query(
                """
                insert into breakwater.job (kind, payload)
                select 'k', case when g <= 3000 then '{"tenant": "big"}' else jsonb_build_object('tenant', g % 5) end
                  from generate_series(1, 3100) g
                """
            )
            try await withFleet(database, handlers) {
                try await waitUntil("the small tenants end") { done.counts["small"] == 100 }
            }
            // The five tenants get five sixths of the slots, after their jobs were found.
            #expect(done.counts["big", default: 0] < 2500, "\(done.counts)")
        }
    }
}
