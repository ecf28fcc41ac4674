import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("A server that crashes", .enabled(if: !CrashServer.programs.isEmpty, "BREAKWATER_PG_BIN is not set"))
struct CrashTests {
    @Test("between a claim's commit and its flush loses the claim but no job, and each job is claimed again")
    func betweenTheCommits() async throws {
        try await CrashServer.with { server in
            var database = try await server.database()
            try await database.insert(20)
            // The server writes its log every ten seconds. If it does so just now, the claim survives, and the test
            // tries again.
            var workers: [HandWorker] = []
            var isLost = false
            while !isLost, workers.count < 6 {
                let worker = try await HandWorker(database)
                workers.append(worker)
                let held = try await database.heldJobs().count
                #expect(try await worker.claim(1, isLate: false).count == 1)
                try await server.crash()
                try await server.start()
                database = try await server.database()
                isLost = try await database.heldJobs().count == held
            }
            #expect(isLost)
            #expect(try await database.count("job") == 20)
            let next = try await HandWorker(database)
            for worker in workers { _ = try await next.connection.call(Reconcile(worker: worker.id, known: [])) }
            let jobs = try await next.claim()
            #expect(Set(jobs.map(\.id)) == Set(1...20))
            #expect(jobs.allSatisfy { $0.attempt == 1 })
            // A claim that was flushed survives a crash.
            try await next.call(Flush(worker: next.id))
            try await server.crash()

            try await server.start()
            database = try await server.database()
            #expect(try await database.heldJobs().count == 20)
        }
    }

    @Test("before a worker's flush is answered: nothing has run, and afterwards each job runs once")
    func beforeTheFlush() async throws {
        try await CrashServer.with { server in
            let database = try await server.database()
            let flush = try await database.text(
                "select pg_get_functiondef(oid) from pg_proc where oid = 'breakwater.flush'::regproc"
            )
            // The worker's claim has committed, but the flush after it is slow.
            try await database.query(
                """
                create or replace function breakwater.flush(p_worker bigint) returns void language sql
                as $$ select pg_sleep(600) $$
                """
            )
            let ran = Notes()
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { job, _ in
                    ran.add("\(job.id)")
                    return .succeeded()
                }
            )
            // A long lease keeps heartbeats rare, because they write the log as well.
            try await database.withWorker([handler], configure: { $0.lease = .seconds(300) }) {
                try await waitUntil("it is there") { try await database.count("worker") == 1 }
                try await database.insert(20)
                try await waitUntil("it has claimed them") { try await database.heldJobs().count == 20 }
                #expect(ran.all == [])
                try await server.crash()
                #expect(ran.all == [])

                try await server.start()
                let restarted = try await server.database()
                #expect(try await restarted.count("job") == 20)
                try await restarted.query(flush)
                // The worker may have connected and sent its first flush before that.
                try await restarted.query(
                    "select count(pg_cancel_backend(pid)) from pg_stat_activity where query like '%breakwater.flush(%'"
                        + " and pid <> pg_backend_pid()"
                )
                try await waitUntil("they run") { try await restarted.count("job") == 0 }
            }
            #expect(ran.counts == Dictionary(uniqueKeysWithValues: (1...20).map { ("\($0)", 1) }))
        }
    }
}
