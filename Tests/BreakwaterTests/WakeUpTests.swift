import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Finding work", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct WakeUpTests {
    private let noop = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })

    @Test("by polling alone, without LISTEN")
    func polling() async throws {
        try await withTestDatabase { database in
            try await database.withWorker([noop], configure: { $0.listens = false }) {
                for round in 1...3 {
                    try await database.insert()
                    try await waitUntil("job \(round) ends") { try await database.count("job") == 0 }
                }
                // No worker asks for notifications, so inserts do not take NOTIFY's lock.
                #expect(try await database.count("sleeper") == 0)
            }
        }
    }

    @Test("by being woken, long before the next poll")
    func notified() async throws {
        try await withTestDatabase { database in
            try await database.withWorker([noop], configure: { $0.pollInterval = .seconds(3600) }) {
                try await waitUntil("it sleeps") { try await database.count("sleeper") == 1 }
                // After this pause, the worker's last claim before its sleep has ended.
                try await Task.sleep(for: .milliseconds(1500))
                for (round, call) in ["'k'", "'k', priority => 0", "'k', priority => 9"].enumerated() {
                    try await database.query("select breakwater.enqueue(\(call))")
                    try await waitUntil("job \(round) ends") {
                        try await database.count("job") == 0
                    }
                }
                try await database.query("select breakwater.enqueue('k', run_at => now() + interval '200 ms')")
                try await waitUntil("the job for later ends") {
                    try await database.count("job") == 0
                }
            }
            #expect(try await database.count("sleeper") == 0)
        }
    }

    @Test("inserts look for sleepers while anybody may be asleep, and only then")
    func looksForSleepers() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            func calls() async throws -> Int {
                try await database.number(
                    "select coalesce(pg_stat_get_xact_function_calls('breakwater.wake_for_inserted'::regproc), 0)"
                )
            }
            func looks() async throws -> Bool {
                try await database.connection.script("begin; set local track_functions = 'all'")
                let before = try await calls()
                try await database.insert()
                let after = try await calls()
                try await database.connection.script("rollback")
                return after > before
            }
            #expect(try await !looks())
            try await database.query("select breakwater.sleep(1, '{k}')")
            try await database.query("select breakwater.poll_hot_kinds(2, '{default}', '{}', '{k}', 60)")
            #expect(try await looks())
            try await database.query("select breakwater.forget_sleepers()")
            #expect(try await looks())

            try await database.query("select breakwater.sleep(1, '{}')")
            #expect(try await looks())
            try await database.query("select breakwater.forget_sleepers()")
            #expect(try await !looks())

            // First a worker goes to sleep while its commit is pending. Then one goes to sleep while another session
            // records
            // that no worker sleeps.
            try await database.query("select breakwater.sleep(1, '{k}')")
            try await database.query("select breakwater.sleep(1, '{}')")
            let other = try await database.connectDirectly()
            try await other.script("begin; select breakwater.sleep(3, '{k}')")
            try await database.query("select breakwater.forget_sleepers()")
            try await other.script("commit")
            #expect(try await looks())
            try await database.query("delete from breakwater.sleeper where worker = 3")
            try await database.connection.script("begin; select breakwater.forget_sleepers()")
            async let comes: Void = other.script("select breakwater.sleep(3, '{k}')")
            try await waitUntil("it waits") { try await database.isWaitedForLock() }
            try await database.connection.script("commit")
            try await comes
            #expect(try await looks())
        }
    }

    @Test("when the last worker leaves, inserts no longer look for sleeping workers")
    func lastLeaves() async throws {
        try await withTestDatabase { database in
            try await database.withWorker([noop]) {
                try await waitUntil("it sleeps") { try await database.count("sleeper") == 1 }
                #expect(try await database.mayAnyoneSleep())
            }
            #expect(try await !database.mayAnyoneSleep())
        }
    }

    @Test("also if the last workers leave at the same time, and maintenance runs meanwhile")
    func leaveTogether() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            for worker in 1...2 { try await database.query("select breakwater.sleep(\(worker), '{k}')") }
            #expect(try await database.mayAnyoneSleep())
            let other = try await database.connectDirectly()
            // The leader's maintenance deletes sleepers in the same way.
            let chores = try await database.connectDirectly()
            try await chores.script("begin; delete from breakwater.sleeper where worker = 3")
            try await other.script("begin; select breakwater.leave(1)")
            async let second = database.query("select breakwater.leave(2)")
            let third = try await database.watchedDirectly()
            try await waitUntil("it waits for the first") { try await third.isWaitedForLock() }
            try await other.script("commit")
            _ = try await second
            #expect(try await !database.mayAnyoneSleep())
            try await chores.script("commit")
        }
    }

    @Test("by one notification a statement, for inserts of kinds that a worker sleeps for and no others")
    func notifications() async throws {
        try await withTestDatabase { database in
            let listener = try await database.connectDirectly()
            try await listener.listen("breakwater")
            try await database.insert()
            try await database.query("select breakwater.sleep(1, '{k,other}')")
            try await database.insert(kind: "nobody")
            try await database.query("select breakwater.enqueue('k', run_at => now() + interval '1 hour')")
            try await database.insert(100)
            try await database.insert(kind: "other")
            try await database.query("select breakwater.stop_sleeping(1)")
            try await database.insert()
            try await database.query("select pg_notify('breakwater', 'end')")
            var heard: [String] = []
            for await notification in listener.notifications {
                heard.append(notification.payload)
                if notification.payload == "end" { break }
            }
            #expect(heard == ["job:k", "job:other", "end"])
            await listener.close()
        }
    }

    @Test("without notifications for kinds that another worker polls in its queues, until that worker stops")
    func polled() async throws {
        try await withTestDatabase { database in
            let listener = try await database.connectDirectly()
            try await listener.listen("breakwater")
            try await database.query("select breakwater.sleep(1, '{k,other}')")
            try await database.query("select breakwater.poll_hot_kinds(2, '{default}', '{other}', '{k}', 3600)")
            try await database.insert()
            try await database.insert(kind: "other")
            try await database.query("select breakwater.enqueue('k', queue => 'elsewhere')")
            // The polling worker cannot keep up, so it stops polling, and sleeping workers are notified again.
            try await database.query("select breakwater.stop_sleeping(2)")
            try await database.query("select pg_notify('breakwater', 'alone')")
            try await database.insert()
            // The term of this polling worker has ended.
            try await database.query("select breakwater.poll_hot_kinds(3, '{default}', '{}', '{k}', -1)")
            try await database.insert()
            // This polling worker goes to sleep.
            try await database.query("select breakwater.poll_hot_kinds(3, '{default}', '{}', '{k}', 3600)")
            try await database.insert()
            try await database.query("select breakwater.sleep(3, '{k}')")
            try await database.insert()
            try await database.query("select pg_notify('breakwater', 'end')")
            var heard: [String] = []
            for await notification in listener.notifications {
                heard.append(notification.payload)
                if notification.payload == "end" { break }
            }
            #expect(heard == ["job:other", "job:k", "job:k", "alone", "job:k", "job:k", "job:k", "end"])
            await listener.close()
        }
    }

    @Test("by polling while many jobs come, and by being woken afterwards")
    func attends() async throws {
        try await withTestDatabase { database in
            let observer = try await database.connect()
            try await database.withWorker([noop], configure: { $0.pollInterval = .seconds(3600) }) {
                try await waitUntil("it sleeps") { try await database.count("sleeper") == 1 }
                try await waitUntil("it attends the kind") {
                    for _ in 0..<20 { try await database.insert() }
                    return try await observer.query("select from breakwater.sleeper where polled = '{k}'").count == 1
                }
                try await waitUntil("it sleeps again") {
                    try await database.number("select count(*) from breakwater.sleeper where polled = '{}'") == 1
                }
                try await waitUntil("all of them end") { try await database.count("job") == 0 }
                try await database.insert()
                try await waitUntil("another one ends") {
                    try await database.count("job") == 0
                }
            }
            #expect(try await database.count("sleeper") == 0)
        }
    }

    @Test("by being woken, while a slow job holds one slot since the start")
    func notifiedWhileSlow() async throws {
        try await withTestDatabase { database in
            let door = Door()
            let slow = HandlerRegistration(
                kind: "slow",
                plugin: ClosureHandler { _, _ in
                    try await door.pass()
                    return .succeeded()
                }
            )
            try await database.insert(kind: "slow")
            try await database.withWorker([noop, slow], configure: { $0.pollInterval = .seconds(3600) }) {
                try await waitUntil("the slow one runs") { door.waiting == 1 }
                for round in 1...3 {
                    try await database.insert()
                    try await waitUntil("job \(round) ends") {
                        try await database.count("job") == 1
                    }
                }
                door.open()
            }
        }
    }

    @Test("when a pause ends, however long its lane has been quiet")
    func resumed() async throws {
        try await withTestDatabase { database in
            try await database.query("select breakwater.pause_kind('k', 'for now')")
            try await database.withWorker([noop], configure: { $0.pollInterval = .seconds(3600) }) {
                try await waitUntil("it sleeps") { try await database.count("sleeper") == 1 }
                try await database.insert(5)
                // The lane becomes quiet after this time.
                try await Task.sleep(for: ActiveLanes.activeTime + .milliseconds(500))
                #expect(try await database.count("job") == 5)
                try await database.query("select breakwater.resume_kind('k')")
                try await waitUntil("the jobs end") { try await database.count("job") == 0 }
            }
        }
    }

    @Test("after a slow run, whose lane had gone quiet meanwhile")
    func afterSlowRun() async throws {
        try await withTestDatabase { database in
            let door = Door()
            let slow = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { _, _ in
                    try await door.pass()
                    return .succeeded()
                }
            )
            try await database.insert(3)
            let configure = { @Sendable (configuration: inout WorkerConfiguration) in
                configuration.pollInterval = .seconds(3600)
                configuration.concurrency = 1
            }
            try await database.withWorker([slow], configure: configure) {
                try await waitUntil("the first runs") { door.waiting == 1 }
                try await Task.sleep(for: ActiveLanes.activeTime + .milliseconds(500))
                door.open()
                try await waitUntil("the others follow") {
                    try await database.count("job") == 0
                }
            }
        }
    }

    @Test("in a lane that was empty before, while another lane keeps the worker busy")
    func whileBusy() async throws {
        try await withTestDatabase { database in
            let order = Notes()
            let flood = HandlerRegistration(
                kind: "flood",
                plugin: ClosureHandler { job, _ in
                    order.add("\(job.priority)")
                    // The delay makes the flood last for some seconds, however quick the worker is.
                    try await Task.sleep(for: .milliseconds(1))
                    return .succeeded()
                },
                settings: {
                    var settings = HandlerSettings()
                    settings.concurrency = 20
                    return settings
                }()
            )
            try await database.query("insert into breakwater.job (kind) select 'flood' from generate_series(1, 60000)")
            try await database.withWorker([flood], configure: { $0.concurrency = 20 }) {
                try await waitUntil("the flood runs") { order.all.count > 100 }
                try await database.query("select breakwater.enqueue('flood', priority => 0)")
                try await waitUntil("all run", deadline: .seconds(180)) { try await database.count("job") == 0 }
            }
            let place = try #require(order.all.firstIndex(of: "0"))
            #expect(place < 55_000, "the urgent one waited for the whole flood")
        }
    }

    @Test("without a busy loop when a kind is resumed and the worker gets no notification")
    func resumedUnheard() async throws {
        try await withTestDatabase { database in
            let configure = { @Sendable (configuration: inout WorkerConfiguration) in
                configuration.listens = false
                configuration.lease = .seconds(60)
            }
            try await database.query("select breakwater.pause_kind('k', 'for now')")
            try await database.withWorker([noop], configure: configure) {
                try await waitUntil("it runs") { try await database.count("worker") == 1 }
                try await waitUntil("it has heard of the pause") {
                    try await database.number("select count(*) from breakwater.worker where beat_at > started_at") == 1
                }
                try await database.insert(10)
                try await database.query("select breakwater.resume_kind('k')")
                try await waitUntil("the jobs end") { try await database.count("job") == 0 }
            }
            // Each claim draws a lease, so a small number of leases means few claims.
            #expect(try await database.number("select last_value from breakwater.lease") < 15)
        }
    }
}

extension TestDatabase {
    /// Whether an insert would look for workers to wake.
    fileprivate func mayAnyoneSleep() async throws -> Bool {
        try await number("select count(*) from breakwater.anyone_asleep where is_called") == 1
    }

    /// Whether a session of this database waits for the lock that guards the table of sleepers.
    fileprivate func isWaitedForLock() async throws -> Bool {
        try await number(
            """
            select count(*) from pg_locks l join pg_database d on d.oid = l.database
             where d.datname = current_database() and l.relation = 'breakwater.sleeper_lock'::regclass and not l.granted
            """
        ) == 1
    }
}
