import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("A worker", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct WorkerTests {
    struct SendEmail: JobHandler {
        struct Payload: Codable { var to: String }

        var sent: Notes

        func handle(_ payload: Payload, context: JobContext) async throws -> JobOutcome {
            sent.add(payload.to)
            return .succeeded()
        }
    }

    private func handler(
        _ kind: String = "k",
        _ settings: (inout HandlerSettings) -> Void = { _ in },
        _ body: @escaping @Sendable (Job, JobContext) async throws -> JobOutcome
    ) -> HandlerRegistration {
        var rules = HandlerSettings()
        settings(&rules)
        return HandlerRegistration(kind: kind, plugin: ClosureHandler(body), settings: rules)
    }

    @Test("runs what a plain INSERT enqueued, and leaves nothing behind")
    func runsJobs() async throws {
        try await withTestDatabase { database in
            let sent = Notes()
            try await database.query(
                #"insert into breakwater.job (kind, payload) values ('email.send', '{"to":"a@b.c"}')"#
            )
            try await database.withWorker([HandlerRegistration(kind: "email.send", handler: SendEmail(sent: sent))]) {
                try await waitUntil("the job ends") { try await database.count("job") == 0 }
            }
            #expect(sent.all == ["a@b.c"])
            for table in ["dead_letter", "worker", "sleeper", "probe"] {
                #expect(try await database.count(table) == 0, "\(table)")
            }
            #expect(try await database.claimsWithJobs() == 0)
        }
    }

    @Test("drains thousands of jobs, each once")
    func drains() async throws {
        try await withTestDatabase { database in
            let ran = Notes()
            try await database.insert(20_000)
            try await database.withWorker([
                handler { job, _ in
                    ran.add("\(job.id)")
                    return .succeeded()
                }
            ]) {
                try await waitUntil("the jobs end") { try await database.count("job") == 0 }
            }
            #expect(Set(ran.all).count == 20_000)
            #expect(ran.all.count == 20_000)
        }
    }

    @Test("runs no more at once than its own limit, nor than each handler's")
    func concurrency() async throws {
        try await withTestDatabase { database in
            let (all, narrow) = (Crowd(), Crowd())
            try await database.insert(100, kind: "wide")
            try await database.insert(100, kind: "narrow")
            let handlers = [
                handler("wide") { _, _ in
                    try await all.within { try await Task.sleep(for: .milliseconds(2)) }
                    return .succeeded()
                },
                handler("narrow", { $0.concurrency = 3 }) { _, _ in
                    try await all.within { try await narrow.within { try await Task.sleep(for: .milliseconds(2)) } }
                    return .succeeded()
                },
            ]
            try await database.withWorker(handlers, configure: { $0.concurrency = 8 }) {
                try await waitUntil("the jobs end") { try await database.count("job") == 0 }
            }
            #expect(narrow.most <= 3)
            #expect(all.most <= 8)
            #expect(all.most > 3)
        }
    }

    @Test("cancels a run at its timeout, which counts as a failure called timeout")
    func timeout() async throws {
        try await withTestDatabase { database in
            try await database.insert(1, maxAttempts: 1)
            let cancelled = Notes()
            let slow = handler("k", { $0.timeout = .milliseconds(200) }) { _, context in
                #expect(context.remainingTime <= .milliseconds(200))
                do {
                    try await Task.sleep(for: .seconds(3600))
                } catch {
                    cancelled.add("cancelled")
                    throw error
                }
                return .succeeded()
            }
            try await database.withWorker([slow]) {
                try await waitUntil("it dies") { try await database.count("dead_letter") == 1 }
            }
            #expect(cancelled.all == ["cancelled"])
            let error = try await database.query(
                "select errors -> 0 ->> 'name', errors -> 0 ->> 'class' from breakwater.dead_letter"
            )
            #expect(try error[0][0].string() == "timeout")
            #expect(try error[0][1].string() == "failed")
        }
    }

    @Test("discards a payload that its handler cannot decode, naming the field")
    func decoding() async throws {
        try await withTestDatabase { database in
            for payload in [#"{}"#, #"{"to": 7}"#, #"{"to": null}"#, "[]", #""text""#] {
                try await database.query(
                    "insert into breakwater.job (kind, payload) values ('email.send', $1::text::jsonb)",
                    [.text(payload)]
                )
            }
            let sent = Notes()
            try await database.withWorker([HandlerRegistration(kind: "email.send", handler: SendEmail(sent: sent))]) {
                try await waitUntil("all are discarded") { try await database.count("job") == 0 }
            }
            #expect(sent.all.isEmpty)
            let messages = try await database.texts(
                "select errors -> 0 ->> 'message' from breakwater.dead_letter where reason = 'discarded' order by id"
            )
            #expect(messages.count == 5)
            #expect(messages.prefix(3).allSatisfy { $0.contains("'to'") }, "\(messages)")
        }
    }

    @Test("leaves jobs of an unknown kind or queue where they are, reported as without a handler")
    func unknownKind() async throws {
        try await withTestDatabase { database in
            try await database.insert(kind: "nobody")
            try await database.query("select breakwater.enqueue('k', queue => 'elsewhere')")
            try await database.insert()
            try await database.withWorker([handler { _, _ in .succeeded() }]) {
                try await waitUntil("the known one ends") { try await database.count("job") == 2 }
                let states = try await database.texts("select distinct state from breakwater.job_status")
                #expect(states == ["no_handler"])
                let why = try await database.text("select why from breakwater.job_status where kind = 'nobody'")
                #expect(why == "no worker that is alive handles 'nobody' in the queue 'default'")
                let reached = try await database.number("select sum(workers)::int8 from breakwater.depth")
                #expect(reached == 0)
            }
            #expect(try await database.number("select max(attempt) from breakwater.job") == 0)
        }
    }

    @Test("a thrown error is a failure under the name of its type, and is retried")
    func thrown() async throws {
        struct Oops: Error {}
        try await withTestDatabase { database in
            try await database.insert()
            let flaky = handler(
                "k",
                {
                    $0.retry.cap = .milliseconds(50); $0.retry.base = .milliseconds(50)
                }
            ) { job, _ in
                if job.attempt == 1 { throw Oops() }
                if job.attempt == 2 { throw JobFailure("chosen", "by the handler") }
                return .succeeded()
            }
            let errors = Notes()
            try await database.withWorker([flaky]) {
                try await waitUntil("it ends") {
                    let names = try await database.texts(
                        "select e ->> 'name' from breakwater.job, jsonb_array_elements(errors) e"
                    )
                    for name in names where !errors.all.contains(name) { errors.add(name) }
                    return try await database.count("job") == 0
                }
            }
            #expect(errors.all == ["Oops", "chosen"])
            #expect(try await database.count("dead_letter") == 0)
        }
    }

    @Test("has no transaction open while a handler runs, and few connections")
    func idleConnections() async throws {
        try await withTestDatabase { database in
            let door = Door()
            try await database.insert(20)
            let slow = handler { _, _ in
                try await door.pass()
                return .succeeded()
            }
            try await database.withWorker([slow]) {
                try await waitUntil("they run") { door.waiting == 20 }
                let others = """
                    from pg_stat_activity
                     where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
                    """
                for _ in 0..<20 {
                    let idle = try await database.number(
                        "select count(*) \(others) and state like 'idle in transaction%'"
                    )
                    #expect(idle == 0)
                    // If a call is not answered for half a second, one more connection asks which session it waits for.
                    #expect(try await database.number("select count(*) \(others)") <= 5)
                    try await Task.sleep(for: .milliseconds(5))
                }
                door.open()
            }
            #expect(try await database.count("job") == 0)
        }
    }
}
