import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Retries in the fleet", .enabled(if: TestDatabase.isAvailable, Comment(rawValue: needsServer)))
struct RetryRuleTests {
    @Test("a job beyond its handler's max_age is dead-lettered as expired, waiting or retrying")
    func expires() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.retry.maxAge = .seconds(3600) }
            try await database.insert(2)
            // The job's next run would come after its maximum age.
            try await worker.settle(try await worker.claim(1), .failed(delay: .seconds(4000)))
            #expect(
                try await database.number("select count(*) from breakwater.dead_letter where reason = 'expired'") == 1
            )
            // The other job has waited for longer than its maximum age.
            try await database.query("update breakwater.job set enqueued_at = now() - interval '2 hours'")
            #expect(try await worker.claim(1).isEmpty)
            #expect(
                try await database.number("select count(*) from breakwater.dead_letter where reason = 'expired'") == 2
            )
        }
    }

    @Test("retries stay within the kind's budget, and ten a second are always allowed")
    func budget() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { settings in
                settings.retry.budget = 0.2
                settings.circuit.isEnabled = false
                settings.circuit.failureRate = nil
            }
            try await database.insert(2000)
            try await worker.settle(try await worker.claim(2000), .failed(delay: .milliseconds(1)))
            try await waitUntil("they are due") {
                try await database.number("select count(*) from breakwater.job where run_at <= now()") == 2000
            }
            for _ in 0..<5 { try await worker.maintain() }
            // The budget is 600 a minute, and a fifth of the 2000 first attempts.
            var ready = try await worker.claim(2000)
            try await worker.settle(ready, .failed(delay: .seconds(3600)))
            for _ in 0..<5 { try await worker.maintain() }
            ready += try await worker.claim(2000)
            #expect(ready.count <= 1000 + 5)
            #expect(ready.count >= 600)
        }
    }
}
