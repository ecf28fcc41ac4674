import BreakwaterTesting
import Testing

@testable import Breakwater

@Suite("While a circuit that has just closed ramps up,", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct RampTests {
    @Test("new jobs get half of the places beside the backlog, and each job runs once")
    func newJobs() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(30)
            try await database.query("update breakwater.job set ready_at = now() - interval '1 hour'")
            try await database.query(
                """
                update breakwater.circuit
                   set since = now() - interval '1 minute', ramp = '100000 hours', ramp_until = now() + interval '1 hour'
                 where kind = 'k'
                """
            )
            try await database.insert(10)
            let first = try await worker.claim(8)
            #expect(first.map(\.id) == [1, 2, 3, 4, 37, 38, 39, 40])
            try await worker.settle(Array(first.prefix(5)))
            var rest: [Int64] = []
            while true {
                let jobs = try await worker.claim(8)
                rest += jobs.map(\.id)
                if jobs.isEmpty { break }
            }
            #expect((first.map(\.id) + rest).sorted() == Array(1...40))
            #expect(try await database.count("job") == 35)
        }
    }

    @Test("the backlog gets all places if there are no new jobs")
    func backlogAlone() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(30)
            try await database.query("update breakwater.job set ready_at = now() - interval '1 hour'")
            try await database.query(
                """
                update breakwater.circuit
                   set since = now() - interval '1 minute', ramp = '100000 hours', ramp_until = now() + interval '1 hour'
                 where kind = 'k'
                """
            )
            #expect(try await worker.claim(8).map(\.id) == Array(1...8))
        }
    }
}
