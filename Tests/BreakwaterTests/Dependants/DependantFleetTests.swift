import BreakwaterTesting
import Libpq
import Synchronization
import Testing

@testable import Breakwater

@Suite("Jobs that wait, in a fleet of workers,", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct DependantFleetTests {
    private func withFleet(
        _ database: TestDatabase,
        _ run: @escaping @Sendable (Job, JobContext) async throws -> JobOutcome,
        _ body: @escaping @Sendable () async throws -> Void
    ) async throws {
        var settings = HandlerSettings()
        settings.concurrency = 20
        settings.retry.base = .milliseconds(20)
        let handlers = ["k", "done"].map {
            HandlerRegistration(kind: $0, plugin: ClosureHandler(run), settings: settings)
        }
        try await database.withWorker(handlers) { try await database.withWorker(handlers, body) }
    }

    @Test("every batch has one callback, after all of its jobs, also those that these add")
    func batches() async throws {
        try await withTestDatabase { database in
            let ended = Mutex<[Int64: Int]>([:])
            let callbacks = Mutex<[Int64: [Int]]>([:])
            try await withFleet(database) { job, context in
                if job.kind == "done" {
                    let jobs = ended.withLock { $0[job.id, default: 0] }
                    callbacks.withLock { $0[job.id, default: []].append(jobs) }
                    return .succeeded()
                }
                let batch = Int64(job.payload.filter(\.isNumber)) ?? 0
                // The first of each batch adds another.
                if job.payload.contains("first") {
                    try await database.enqueue("'k', '{\"batch\": \(batch)}', batch => \(batch)")
                }
                ended.withLock { $0[batch, default: 0] += 1 }
                return job.id % 7 == 0 ? .discarded(JobFailure("bad", "it is bad")) : .succeeded()
            } _: {
                for _ in 1...100 {
                    try await database.query(
                        """
                        with b as materialized (select breakwater.batch('done') as id)
                        select breakwater.enqueue('k', jsonb_build_object('batch', b.id, case n when 1 then 'first' else 'more' end, true),
                                                  batch => b.id)
                          from b, generate_series(1, 4) n
                        """
                    )
                }
                try await waitUntil("all jobs end") { try await database.count("job") == 0 }
            }
            let counts = callbacks.withLock { $0 }
            #expect(counts.count == 100)
            #expect(counts.values.allSatisfy { $0 == [5] }, "\(counts)")
        }
    }

    @Test("a chain of jobs runs in its order, although some fail at first")
    func chain() async throws {
        try await withTestDatabase { database in
            let order = Mutex<[Int64]>([])
            var ids = [try await database.enqueue("'k'")]
            for _ in 1..<100 { ids.append(try await database.enqueue("'k', after => array[\(ids.last!)]")) }
            try await withFleet(database) { job, _ in
                if job.id % 10 == 0, job.attempt == 1 { return .failed(JobFailure("slow", "it is slow")) }
                order.withLock { $0.append(job.id) }
                return .succeeded()
            } _: {
                try await waitUntil("all jobs end") { try await database.count("job") == 0 }
            }
            #expect(order.withLock { $0 } == ids)
        }
    }
}
