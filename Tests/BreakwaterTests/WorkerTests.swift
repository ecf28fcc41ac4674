import BreakwaterTesting
import Libpq
import Logging
import ServiceLifecycle
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
            for table in ["dead_letter", "claim", "worker", "sleeper", "probe"] {
                #expect(try await database.count(table) == 0, "\(table)")
            }
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
                let others = "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
                for _ in 0..<20 {
                    let idle = try await database.number(
                        "select count(*) \(others) and state like 'idle in transaction%'"
                    )
                    #expect(idle == 0)
                    #expect(try await database.number("select count(*) \(others)") <= 4)
                    try await Task.sleep(for: .milliseconds(5))
                }
                door.open()
            }
            #expect(try await database.count("job") == 0)
        }
    }
}

@Suite("Shutting down", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ShutdownTests {
    private let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    /// A worker in a service group, with its configuration.
    private func group(
        _ database: TestDatabase,
        grace: Duration,
        _ body: @escaping @Sendable (Job, JobContext) async throws -> JobOutcome
    ) -> ServiceGroup {
        var configuration = WorkerConfiguration(
            database: database.options,
            handlers: [HandlerRegistration(kind: "k", plugin: ClosureHandler(body))]
        )
        configuration.concurrency = 4
        configuration.shutdownGrace = grace
        return ServiceGroup(services: [Worker(configuration: configuration, logger: silent)], logger: silent)
    }

    @Test("within the grace finishes what runs, and hands back the rest unspent")
    func withinGrace() async throws {
        try await withTestDatabase { database in
            try await database.insert(50)
            let door = Door()
            let group = group(database, grace: .seconds(60)) { _, _ in
                try await door.pass()
                return .succeeded()
            }
            async let run: Void = group.run()
            try await waitUntil("four run") { door.waiting == 4 }
            await group.triggerGracefulShutdown()
            try await waitUntil("it is draining") {
                try await database.number("select count(*) from breakwater.worker where state = 'draining'") == 1
            }
            #expect(door.waiting == 4)
            door.open()
            try await run
            #expect(try await database.count("job") == 46)
            #expect(
                try await database.number("select count(*) from breakwater.job where worker is not null or attempt > 0")
                    == 0
            )
            #expect(try await database.count("worker") == 0)
            #expect(try await database.count("claim") == 0)
        }
    }

    @Test("after the grace cancels what still runs, and hands it back unspent")
    func afterGrace() async throws {
        try await withTestDatabase { database in
            try await database.insert(10)
            let cancelled = Notes()
            let door = Door()
            let group = group(database, grace: .milliseconds(200)) { job, _ in
                do { try await door.pass() } catch {
                    cancelled.add("\(job.id)")
                    throw error
                }
                return .succeeded()
            }
            async let run: Void = group.run()
            try await waitUntil("four run") { door.waiting == 4 }
            await group.triggerGracefulShutdown()
            try await run
            #expect(cancelled.all.count == 4)
            #expect(try await database.count("job") == 10)
            let touched =
                "select count(*) from breakwater.job where worker is not null or attempt > 0 or errors is not null"
            #expect(try await database.number(touched) == 0)
            #expect(try await database.count("worker") == 0)
        }
    }

    @Test("ends although a handler ignores its cancellation, and hands its job back")
    func deafHandler() async throws {
        try await withTestDatabase { database in
            try await database.insert(1)
            let (door, started) = (Door(), Notes())
            let group = group(database, grace: .milliseconds(100)) { _, _ in
                started.add("started")
                await Task.detached { try? await door.pass() }.value
                return .succeeded()
            }
            async let run: Void = group.run()
            try await waitUntil("it runs") { started.all.count == 1 }
            await group.triggerGracefulShutdown()
            try await run
            #expect(
                try await database.number("select count(*) from breakwater.job where worker is null and attempt = 0")
                    == 1
            )
            door.open()
        }
    }

    @Test("ends within its graces although the database is gone")
    func withoutDatabase() async throws {
        try await withTestDatabase { database in
            try await database.insert(4)
            let door = Door()
            try await withLoginRole(database, memberOf: "breakwater_worker") { role in
                var configuration = WorkerConfiguration(
                    database: database.options(for: role),
                    handlers: [
                        HandlerRegistration(
                            kind: "k",
                            plugin: ClosureHandler { _, _ in
                                try await door.pass()
                                return .succeeded()
                            }
                        )
                    ]
                )
                configuration.shutdownGrace = .milliseconds(500)
                let group = ServiceGroup(
                    services: [Worker(configuration: configuration, logger: silent)],
                    logger: silent
                )
                async let run: Void = group.run()
                try await waitUntil("they run") { door.waiting == 4 }
                // Nobody of its name gets in any more.
                try await database.query("alter role \(role) nologin")
                try await database.query(
                    "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1",
                    [.text(role)]
                )
                door.open()
                let start = ContinuousClock.now
                await group.triggerGracefulShutdown()
                try await run
                #expect(ContinuousClock.now - start < .seconds(25))
            }
            // Its jobs are given back when its lease ends: to the one who looks then.
            #expect(try await database.count("job") == 4)
            try await database.query("update breakwater.worker set beat_at = now() - interval '1 hour'")
            let other = try await HandWorker(database)
            #expect(try await other.maintain().rescued == 4)
            #expect(try await other.claim().count == 4)
        }
    }
}

@Suite("Losing the database", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct LossTests {
    private let terminate = """
        select count(pg_terminate_backend(pid)) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()
        """

    @Test("again and again while jobs flow loses none, and each ends")
    func terminated() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let ran = Notes()
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { job, _ in
                    ran.add("\(job.id)")
                    try await Task.sleep(for: .milliseconds(1))
                    return job.id % 10 == 0 ? .discarded(JobFailure("tenth", "by design")) : .succeeded()
                }
            )
            try await database.insert(3000)
            try await database.withWorker([handler], configure: { $0.concurrency = 20 }) {
                for round in 1...8 {
                    let before = ran.all.count
                    try await waitUntil("it goes on after loss \(round - 1)") {
                        let remaining = try await database.count("job")
                        return ran.all.count >= before + 50 || remaining == 0
                    }
                    try await database.query(terminate)
                }
                try await waitUntil("all end", deadline: .seconds(60)) { try await database.count("job") == 0 }
            }
            #expect(Set(ran.all).count == 3000)
            #expect(try await database.count("dead_letter") == 300)
            #expect(try await database.number("select max(attempt) from breakwater.dead_letter") == 1)
            #expect(try await database.count("claim") == 0)
        }
    }

    @Test("a worker that was struck off cancels its runs, registers anew, and works on")
    func struckOff() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let (door, cancelled, ran) = (Door(), Notes(), Notes())
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { job, _ in
                    do { try await door.pass() } catch {
                        cancelled.add("\(job.id)")
                        throw error
                    }
                    ran.add("\(job.id)")
                    return .succeeded()
                }
            )
            try await database.insert(5)
            try await database.withWorker([handler], configure: { $0.lease = .seconds(5) }) {
                try await waitUntil("they run") { door.waiting == 5 }
                let first = try await database.number("select id from breakwater.worker")
                // As a rescue does it.
                try await database.query("select breakwater.give_back(\(first), '{}', interval '5 seconds')")
                try await database.query("delete from breakwater.worker")
                try await waitUntil("it cancels them") { cancelled.all.count == 5 }
                door.open()
                try await waitUntil("they end after all") { try await database.count("job") == 0 }
                #expect(try await database.number("select id from breakwater.worker") > first)
            }
            #expect(ran.counts == ["1": 1, "2": 1, "3": 1, "4": 1, "5": 1])
        }
    }

    @Test("the jobs of a worker that dies run on another, unspent")
    func otherWorker() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let dead = try await HandWorker(database, lease: .seconds(1))
            try await database.insert(20)
            #expect(try await dead.claim(10).count == 10)
            let attempts = Notes()
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { job, _ in
                    attempts.add("\(job.attempt)")
                    return .succeeded()
                }
            )
            try await database.withWorker([handler]) {
                try await waitUntil("all end") { try await database.count("job") == 0 }
            }
            #expect(attempts.counts == ["1": 20])
        }
    }

    @Test("a claim of a lost connection that commits only after its worker is back is given back, too")
    func lateAnswer() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
            try await database.withWorker([handler], configure: { $0.lease = .seconds(2) }) {
                try await waitUntil("it is there") { try await database.count("worker") == 1 }
                let worker = try await database.number("select id from breakwater.worker")
                try await database.query("begin")
                try await database.insert(5)
                try await database.query(
                    "select * from breakwater.claim(\(worker), '{default}', '{k}', '{5}', '{0}', '{1}', '{9}', '{9}', 9)"
                )
                let other = try await database.connectDirectly()
                _ = try await other.query(
                    """
                    select count(pg_terminate_backend(pid)) from pg_stat_activity
                     where datname = current_database() and pid not in (pg_backend_pid(), \(database.connection.backendPID))
                    """
                )
                // It is back when it does new work.
                _ = try await other.query("insert into breakwater.job (kind) values ('k')")
                try await waitUntil("it is back") {
                    try await other.query("select count(*) from breakwater.job")[0][0].int() == 0
                }
                try await database.query("commit")
                try await waitUntil("they run") { try await database.count("job") == 0 }
                #expect(try await database.number("select id from breakwater.worker") == worker)
            }
        }
    }

    @Test("leaves its floors to the next worker, which begins there")
    func floorsLeft() async throws {
        try await withTestDatabase { database in
            let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
            for round in 1...2 {
                try await database.insert(100)
                try await database.withWorker([handler]) {
                    try await waitUntil("they run") { try await database.count("job") == 0 }
                }
                // Somebody else in the database may have kept the last from being proven.
                let floor = try await database.number("select coalesce(max(floor), 0) from breakwater.floor")
                #expect((1...round * 100).contains(floor))
            }
        }
    }

    @Test("a claim whose answer was lost is given back while the worker lives on")
    func lostAnswer() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
            try await database.withWorker([handler]) {
                try await waitUntil("it is there") { try await database.count("worker") == 1 }
                // In the worker's name, on a connection that it knows nothing of.
                let worker = try await database.number("select id from breakwater.worker")
                try await database.query("begin")
                try await database.insert(5)
                let claimed = try await database.query(
                    """
                    select from breakwater.claim(\(worker), '{default}', '{k}', '{5}', '{0}', '{1}', '{9}', '{9}', 9)
                     where id is not null
                    """
                )
                #expect(claimed.count == 5)
                try await database.query("commit")
                try await database.query(terminate)
                try await waitUntil("they run") { try await database.count("job") == 0 }
            }
        }
    }

    @Test("to a server that only reads (SQLSTATE 25006) makes it connect anew until one writes")
    func readOnly() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let name = try await database.text("select quote_ident(current_database())")
            let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
            // Without the pooler, which would go on with the sessions that only read.
            let configure = { @Sendable (configuration: inout WorkerConfiguration) in
                configuration.database = ConnectionOptions(database.directURL)
                configuration.lease = .seconds(60)
            }
            let refusals =
                "select coalesce(sum(xact_rollback), 0)::bigint from pg_stat_database where datname = current_database()"
            try await database.withWorker([handler], configure: configure) {
                try await waitUntil("it is there") { try await database.count("worker") == 1 }
                try await database.query("alter database \(name) set default_transaction_read_only = on")
                try await database.query(terminate)
                try await database.insert(3)
                let before = try await database.number(refusals)
                try await waitUntil("it is refused") { try await database.number(refusals) > before }
                #expect(try await database.count("job") == 3)
                try await database.query("alter database \(name) reset default_transaction_read_only")
                try await waitUntil("they run") { try await database.count("job") == 0 }
            }
        }
    }

    @Test(
        "to a standby that had not heard of the last positions: new jobs are found below the old cursors",
        arguments: [true, false]
    )
    func positionsDrawnAgain(endsConnections: Bool) async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
            let configure = { @Sendable (configuration: inout WorkerConfiguration) in
                configuration.pollInterval = .milliseconds(50)
            }
            try await database.withWorker([handler], configure: configure) {
                try await database.insert(20)
                try await waitUntil("the first end") { try await database.count("job") == 0 }
                // Some polls long, so that the floor moves.
                try await Task.sleep(for: .seconds(1))
                try await database.query("select setval('breakwater.job_position', 1)")
                // A pooler may keep the worker from seeing that its connection led elsewhere.
                if endsConnections { try await database.query(terminate) }
                try await database.insert()
                try await waitUntil("it runs") { try await database.count("job") == 0 }
            }
        }
    }
}
