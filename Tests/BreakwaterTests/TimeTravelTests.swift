import BreakwaterTesting
import Foundation
import Testing

@testable import Breakwater

@Suite("Time travel", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct TimeTravelTests {
    /// A payload without members.
    private struct Anything: Decodable {}

    @Test("lets retries, scheduled jobs and slots come at once, and no others")
    func jobs() async throws {
        try await withTestDatabase { database in
            let runs = Notes()
            var settings = HandlerSettings()
            settings.retry.base = .seconds(3600)
            settings.retry.jitter = .none
            let handler = HandlerRegistration(kind: JobKind<Anything>("k"), settings: settings) {
                _,
                context in
                runs.add("\(context.job.id) \(context.job.attempt)")
                return context.job.attempt == 1 && context.job.id == 1 ? .failed(JobFailure("no", "no")) : .succeeded()
            }
            try await database.withWorker([handler]) {
                try await database.connection.enqueue(kind: "k")
                try await waitUntil("the job has failed once") {
                    try await database.number("select count(*) from breakwater.job where run_at > now()") == 1
                }
                try await database.connection.enqueue(kind: "k", runAt: .now + 5400)
                try await database.connection.enqueue(kind: "k", runAt: .now + 86_400)
                try await database.connection.set(Schedule(name: "s", .every(.seconds(86_400 * 365)), kind: "k"))
                try await database.travel(by: .seconds(7200))
                try await waitUntil("both have run") { try await database.count("job") == 1 }
                #expect(Set(runs.all) == ["1 1", "1 2", "2 1"])
                try await database.travel(by: .seconds(86_400 * 366))
                try await waitUntil("the slot has come") { runs.all.count == 5 }
            }
            await #expect(throws: BreakwaterTestingError.self) { try await database.travel(by: .zero) }
        }
    }

    @Test("ends the open time of circuits and lets rates start more")
    func circuits() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) {
                $0.limits = [JobLimit(rate: .init(1, per: .seconds(3600)), burst: 1)]
            }
            try await database.insert(3)
            #expect(try await worker.claim().count == 1)
            #expect(try await worker.claim().isEmpty)
            try await database.travel(by: .seconds(3700))
            #expect(try await worker.claim().count == 1)
            try await database.connection.openCircuit("k", reason: "test", until: .now + 3600)
            try await database.travel(by: .seconds(3700))
            try await worker.maintain()
            #expect(try await database.text("select coalesce(override, 'none') from breakwater.circuit") == "none")
        }
    }
}
