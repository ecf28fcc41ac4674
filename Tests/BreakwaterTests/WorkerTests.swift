import Breakwater
import BreakwaterTesting
import Synchronization
import Testing

@Suite("A worker", .enabled(if: TestDatabase.isAvailable, "BREAKWATER_TEST_DATABASE is not set"))
struct WorkerTests {
    struct SendEmail: JobHandler {
        struct Payload: Codable { var to: String }

        var sent: Notes

        func handle(_ payload: Payload, context: JobContext) async throws -> JobOutcome {
            sent.add(payload.to)
            return .succeeded()
        }
    }

    @Test("runs what a plain INSERT enqueued, and deletes it")
    func runsJobs() async throws {
        try await withTestDatabase { database in
            let sent = Notes()
            try await database.query(
                #"insert into breakwater.job (kind, payload) values ('email.send', '{"to":"a@b.c"}')"#
            )
            try await database.withWorker([HandlerRegistration(kind: "email.send", handler: SendEmail(sent: sent))]) {
                try await waitUntil("the job ends") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
            }
            #expect(sent.all == ["a@b.c"])
            #expect(try await database.number("select count(*) from breakwater.dead_letter") == 0)
            #expect(try await database.number("select count(*) from breakwater.claim") == 0)
            #expect(try await database.number("select count(*) from breakwater.worker") == 0)
        }
    }

    @Test("drains thousands of jobs, each once")
    func drains() async throws {
        try await withTestDatabase { database in
            let ran = Notes()
            try await database.query(
                "insert into breakwater.job (kind) select 'noop' from generate_series(1, 20000)"
            )
            let handler = ClosureHandler { job, _ in
                ran.add("\(job.id)")
                return .succeeded()
            }
            let start = ContinuousClock.now
            try await database.withWorker([HandlerRegistration(kind: "noop", plugin: handler)]) {
                try await waitUntil("the jobs end") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
            }
            print("drained in", ContinuousClock.now - start)
            #expect(Set(ran.all).count == 20000)
            #expect(ran.all.count == 20000)
        }
    }
}
