import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("A rate", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct RateTests {
    @Test("lets its burst start at once, and then one job in each interval")
    func burst() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) {
                $0.limits = [JobLimit(rate: .init(1, per: .seconds(3600)), burst: 3)]
            }
            try await database.insert(10)
            #expect(try await worker.claim().count == 3)
            #expect(try await worker.claim().isEmpty)
            #expect(try await database.text("select state from breakwater.job_status where id = 9") == "limited")
            #expect(
                try await database.text("select why from breakwater.job_status where id = 9")
                    == "the limit 'k' lets 1/h start: free in 61 min"
            )
            // An hour and a half later, one more may start.
            try await database.query("update breakwater.rule_claim set due_at = due_at - interval '90 minutes'")
            #expect(try await worker.claim().count == 1)
            #expect(try await worker.claim().isEmpty)
        }
    }

    @Test("that is slow lets nothing more start shortly before its time")
    func slow() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) {
                $0.limits = [JobLimit(rate: .init(1, per: .seconds(86_400)), burst: 1)]
            }
            try await database.insert(10)
            #expect(try await worker.claim().count == 1)
            for ahead in ["200 milliseconds", "120 milliseconds", "90 milliseconds"] {
                try await database.query(
                    "update breakwater.rule_claim set due_at = clock_timestamp() + $1::interval",
                    [.text(ahead)]
                )
                #expect(try await worker.claim().count <= 1)
                #expect(try await worker.claim().isEmpty, "\(ahead)")
            }
        }
    }

    @Test("that is raised is not held up by the starts of the old one")
    func raised() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.query("select breakwater.set_limit('k', rate => 1, per => '1 day', burst => 5)")
            try await database.insert(100)
            #expect(try await worker.claim().count == 5)
            try await database.query("select breakwater.set_limit('k', rate => 1000000, burst => 50)")
            try await waitUntil("more start") { try await !worker.claim(50).isEmpty }
        }
    }

    @Test("of each value of the payload holds back only that value, and lets it start when it is due")
    func keyed() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) {
                $0.limits = [JobLimit(rate: .init(1, per: .seconds(3600)), burst: 2, key: ["t"])]
            }
            try await database.query(
                "insert into breakwater.job (kind, payload) select 'k', jsonb_build_object('t', t) from unnest(array[1, 1, 1, 2, 1, 3]) t"
            )
            #expect(try await worker.claim().map(\.id) == [1, 2, 4, 6])
            #expect(try await worker.claim().isEmpty)
            #expect(
                try await database.text("select why from breakwater.job_status where id = 3")
                    == "the limit 'k $.t' lets 1/h start of t 1: free in 61 min"
            )
            try await database.query("update breakwater.key_clock set due_at = due_at - interval '90 minutes'")
            try await database.query("update breakwater.freed_key set due_at = due_at - interval '90 minutes'")
            #expect(try await worker.claim().map(\.id) == [3])
        }
    }

    @Test("pauses for as long as a throttled dependency asks, and for no longer")
    func retryAfter() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.limits = [JobLimit(rate: .init(1000, per: .seconds(1)))] }
            try await database.insert(10)
            try await worker.settle(try await worker.claim(1), .throttled(delay: .seconds(600)))
            #expect(try await worker.claim().isEmpty)
            #expect(
                try await database.text("select why from breakwater.job_status where id = 9")
                    == "the limit 'k' lets 1000/s start: free in 10 min"
            )
            try await database.query("update breakwater.rate_pause set until = now()")
            #expect(try await worker.claim().count == 9)
        }
    }

    @Test("spaces the starts of a batch evenly over the time ahead")
    func delays() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) {
                $0.limits = [JobLimit(rate: .init(1000, per: .seconds(1)), burst: 10)]
            }
            try await database.insert(100)
            let claim = Claim(
                worker: worker.id,
                lanes: ActiveLanes(queues: ["default"], kinds: ["k"]).all,
                room: [("k", 100, concurrency: 1000)],
                total: 100
            )
            let result = try await worker.connection.pipeline([claim.statement])[0]
            let jobs = try claim.decode(result)
            // The burst starts at once, and the rest of the next 50 ms in steps of a millisecond.
            #expect((55...62).contains(jobs.count), "\(jobs.count)")
            let starts = jobs.map { $0.startsAt }
            #expect(starts[0..<10].allSatisfy { $0 == nil })
            let later = starts.compactMap { $0 }
            #expect(later.count >= jobs.count - 11)
            #expect(
                zip(later, later.dropFirst()).allSatisfy {
                    ($1 - $0) > .microseconds(900) && ($1 - $0) < .microseconds(1200)
                }
            )
            let heldBack = try claim.heldBack(result)
            #expect(heldBack["k"].map { $0 < .milliseconds(100) } == true)
        }
    }
}
