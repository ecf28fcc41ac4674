import BreakwaterTesting
import Foundation
import Libpq
import Synchronization
import Testing

@testable import Breakwater

@Suite("Stale owners", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct FencingTests {
    /// Everything that a result could change, as text.
    private static let everything = """
        select jsonb_build_object(
            'jobs', (select jsonb_agg(to_jsonb(j) order by j.id) from breakwater.job j),
            'dead', (select jsonb_agg(to_jsonb(d)) from breakwater.dead_letter d),
            'results', (select jsonb_agg(to_jsonb(r)) from breakwater.result r),
            'circuits', (select jsonb_agg(to_jsonb(c)) from breakwater.circuit c),
            'calls', (select jsonb_agg(to_jsonb(t)) from breakwater.tally t),
            'probes', (select jsonb_agg(to_jsonb(p)) from breakwater.probe p),
            'claims', (select jsonb_agg(to_jsonb(c)) from breakwater.claim c))::text
        """

    private static let endings: [FinishedRun.Ending] = [
        FinishedRun.Ending(outcomeClass: .succeeded, result: "1", isSlow: true), .failed(), .unavailable(),
        .throttled(),
        FinishedRun.Ending(outcomeClass: .unavailable, effect: .tripped, retryAfter: .seconds(60)), .discarded,
        .snoozed(),
        .released,
    ]

    @Test("change nothing, whatever they say: job, results, dead letters, circuit", arguments: endings)
    func settle(ending: FinishedRun.Ending) async throws {
        try await withTestDatabase { database in
            try await database.insert(1, maxAttempts: 1)
            let settings: (inout HandlerSettings) -> Void = {
                $0.keepResults = .seconds(60)
                $0.circuit.consecutiveFailures = 1
            }
            let stale = try await HandWorker(database, settings: settings)
            let old = try await stale.claim()
            let owner = try await HandWorker(database, settings: settings)
            try await database.query(
                "update breakwater.worker set beat_at = now() - interval '1 hour' where id = \(stale.id)"
            )
            #expect(try await owner.maintain().rescued == 1)
            #expect(try await owner.claim().count == 1)
            let before = try await database.text(Self.everything)
            let answer = try await stale.settle(old, ending, claims: old.map(\.lease))
            #expect(answer.settled == 0)
            #expect(answer.stale == [1])
            #expect(try await database.text(Self.everything) == before)
            // The worker's calls about its membership change nothing either.
            #expect(try await !stale.beat().isAlive)
            #expect(try await stale.claim().isEmpty)
            #expect(try await stale.connection.call(Leave(worker: stale.id)) == 0)
            #expect(try await stale.connection.call(Reconcile(worker: stale.id, known: [])) == 0)
            #expect(try await database.text(Self.everything) == before)
        }
    }

    @Test("give up their runs before the lease has ended by the database's clock, when the network goes silent")
    func blackhole() async throws {
        try await withTestDatabase { database in
            guard var url = URLComponents(string: database.url) else { throw CancellationError() }
            let proxy = try CountingProxy(server: UInt16(url.port ?? 5432))
            defer { proxy.stop() }
            url.port = Int(proxy.port)
            let through = url.string ?? ""
            // The worker gives up when a quarter of the lease is left. With this lease, a quarter is enough for a slow
            // machine.
            let lease = 16
            let running = Notes()
            let left = Mutex<Double?>(nil)
            let handler = ClosureHandler { job, _ in
                guard running.all.isEmpty else { return .succeeded() }
                running.add("\(job.id)")
                while !Task.isCancelled { try? await Task.sleep(for: .milliseconds(50)) }
                // The query runs in a task of its own, because the handler's task is cancelled and would cancel the
                // query.
                let seconds = try await Task {
                    try await database.query(
                        "select extract(epoch from beat_at + lease - clock_timestamp())::float8 from breakwater.worker"
                    )[0][0].double()
                }.value
                left.withLock { $0 = seconds }
                return .released
            }
            try await database.insert()
            try await database.withWorker(
                [HandlerRegistration(kind: "k", plugin: handler)],
                configure: { configuration in
                    configuration.database = ConnectionOptions(through)
                    configuration.lease = .seconds(lease)
                    configuration.shutdownGrace = .seconds(1)
                }
            ) {
                try await waitUntil("it runs") { running.all.count == 1 }
                proxy.swallows.store(true, ordering: .relaxed)
                try await waitUntil("it is cancelled") { left.withLock { $0 != nil } }
                #expect((left.withLock { $0 } ?? 0) > 0)
                // When the network is back, the worker recovers by itself, and the job runs again without a spent
                // attempt.
                proxy.swallows.store(false, ordering: .relaxed)
                try await waitUntil("the job ends") { try await database.count("job") == 0 }
            }
            #expect(try await database.count("dead_letter") == 0)
        }
    }
}
