import BreakwaterMetrics
import BreakwaterTesting
import Foundation
import Libpq
import Logging
import Metrics
import ServiceLifecycle
import Testing

@testable import Breakwater

@Suite("The fleet's metrics", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct FleetMetricsTests {
    /// Registers a worker that claims no jobs.
    private func register(
        _ database: TestDatabase,
        _ kinds: [String],
        queues: [String] = ["default"],
        settings: HandlerSettings = HandlerSettings()
    ) async throws -> Int64 {
        let nothing = ClosureHandler { _, _ in .succeeded() }
        var configuration = WorkerConfiguration(
            database: database.options,
            handlers: kinds.map { HandlerRegistration(kind: $0, plugin: nothing, settings: settings) }
        )
        configuration.queues = queues
        return try await database.connection.call(Register(configuration: configuration))
    }

    private func sample(_ database: TestDatabase, maxAge: Duration = .zero) async throws -> FleetSample {
        try #require(try await database.connection.call(SampleFleet(maxAge: maxAge)))
    }

    /// Returns the output of a registry after one sample.
    private func told(_ database: TestDatabase) async throws -> Scrape {
        let registry = MetricsRegistry()
        var report = FleetMetrics.Report(factory: registry)
        report.set(try await sample(database))
        return Scrape(registry)
    }

    @Test("tell what runs under each limit, and what it holds back")
    func limits() async throws {
        try await withTestDatabase { database in
            var settings = HandlerSettings()
            settings.limits = [JobLimit(concurrency: 2), JobLimit(concurrency: 1, key: ["c"])]
            let worker = try await register(database, ["k"], settings: settings)
            try await database.query("insert into breakwater.job (kind) select 'k' from generate_series(1, 5)")
            let lanes = ActiveLanes(queues: ["default"], kinds: ["k"]).all
            let claim = Claim(worker: worker, lanes: lanes, room: [("k", 10, concurrency: 10)], total: 10)
            #expect(try await database.connection.call(claim).count == 1)
            let scrape = try await told(database)
            #expect(scrape[#"breakwater_fleet_limit_running{limit="k",type="limit"}"#] == 1)
            #expect(scrape[#"breakwater_fleet_limit_concurrency{limit="k",type="limit"}"#] == 2)
            #expect(scrape[#"breakwater_fleet_limit_held_back{limit="k $.c",type="limit"}"#] == 4)
        }
    }

    @Test(
        "tell of schedules: how many there are, how late each is, and what became of its slots since the first sample"
    )
    func schedules() async throws {
        try await withTestDatabase { database in
            for name in ["late", "paused", "fine"] {
                try await database.query(
                    "select breakwater.set_schedule($1, cron => '0 0 1 1 *', kind => 'k')",
                    [.text(name)]
                )
            }
            try await database.query("select breakwater.pause_schedule('paused', 'r')")
            try await database.query(
                """
                update breakwater.schedule
                   set enqueued = 5, skipped = 1, next_at = case name when 'late' then now() - interval '90 s' else next_at end,
                       last_slot = '2026-01-01Z', last_at = '2026-01-01 00:00:02Z'
                 where name <> 'paused'
                """
            )
            let registry = MetricsRegistry()
            var report = FleetMetrics.Report(factory: registry)
            report.set(try await sample(database))
            try await database.query(
                "update breakwater.schedule set enqueued = 8, missed_slots = 2 where name = 'fine'"
            )
            report.set(try await sample(database))
            let scrape = Scrape(registry)
            func slots(_ schedule: String, _ outcome: String) -> Double? {
                scrape["breakwater_fleet_schedule_slots_total{outcome=\"\(outcome)\",schedule=\"\(schedule)\"}"]
            }
            #expect(scrape["breakwater_fleet_schedules{state=\"active\"}"] == 2)
            #expect(scrape["breakwater_fleet_schedules{state=\"paused\"}"] == 1)
            #expect(scrape["breakwater_fleet_schedules{state=\"failing\"}"] == 0)
            let lateness = "breakwater_fleet_schedule_lateness_seconds"
            #expect(scrape["\(lateness){schedule=\"fine\"}"] == 2)
            #expect(try (90..<400).contains(#require(scrape["\(lateness){schedule=\"late\"}"])))
            #expect(slots("fine", "enqueued") == 3 && slots("fine", "missed") == 2 && slots("fine", "skipped") == 0)
            #expect(slots("late", "enqueued") == 0)

            // A schedule that is set again begins to count anew.
            try await database.query("select breakwater.remove_schedule('fine')")
            try await database.query("select breakwater.set_schedule('fine', cron => '0 0 1 1 *', kind => 'k')")
            try await database.query("update breakwater.schedule set enqueued = 1 where name = 'fine'")
            report.set(try await sample(database))
            #expect(
                Scrape(registry)["breakwater_fleet_schedule_slots_total{outcome=\"enqueued\",schedule=\"fine\"}"] == 4
            )
        }
    }

    @Test("count jobs by queue, kind and state, with the age of the oldest; unknown names are 'other'")
    func jobs() async throws {
        try await withTestDatabase { database in
            let worker = try await register(database, ["k", "l"], queues: ["default", "q"])
            try await database.query(
                """
                insert into breakwater.job (kind, queue, ready_at, run_at, attempt, crashes)
                values ('k', 'default', now() - interval '90 s', null, 0, 0),
                       ('k', 'default', now() - interval '9 s', null, 0, 0),
                       ('l', 'q', now(), null, 0, 2),
                       ('k', 'q', now(), now() + interval '1 h', 0, 0),
                       ('k', 'q', now(), now() - interval '60 s', 2, 0),
                       ('stray', 'default', now(), null, 0, 0),
                       ('stray 2', 'stray', now(), null, 0, 0),
                       ('k', 'stray', now(), null, 0, 0)
                """
            )
            // A claim holds job 3.
            try await database.query(
                """
                insert into breakwater.claim (lease, worker, last, floor, jobs)
                values (nextval('breakwater.lease'), $1, 0, 0, '{3}')
                """,
                [.int8(worker)]
            )
            let scrape = try await told(database)
            func jobs(_ queue: String, _ kind: String, _ state: String) -> Double? {
                scrape["breakwater_fleet_jobs{kind=\"\(kind)\",queue=\"\(queue)\",state=\"\(state)\"}"]
            }
            #expect(jobs("default", "k", "ready") == 2)
            #expect(jobs("q", "l", "running") == 1)
            #expect(jobs("q", "k", "scheduled") == 1)
            #expect(jobs("q", "k", "retrying") == 1)
            #expect(jobs("default", "other", "ready") == 1)
            #expect(jobs("other", "other", "ready") == 1)
            #expect(jobs("other", "k", "ready") == 1)
            #expect(!scrape.text.contains("stray"))
            let oldest = "breakwater_fleet_oldest_seconds"
            let ready = try #require(scrape["\(oldest){kind=\"k\",queue=\"default\",state=\"ready\"}"])
            let due = try #require(scrape["\(oldest){kind=\"k\",queue=\"q\",state=\"retrying\"}"])
            #expect(ready >= 90 && ready < 3600)
            #expect(due >= 60 && due < 3600)
            #expect(scrape["\(oldest){kind=\"k\",queue=\"q\",state=\"scheduled\"}"] == 0)
            #expect(scrape["breakwater_fleet_suspects"] == 1)
        }
    }

    @Test("count dead letters, workers, slots and pauses")
    func others() async throws {
        try await withTestDatabase { database in
            _ = try await register(database, ["k"])
            let silent = try await register(database, ["k"])
            let draining = try await register(database, ["k"])
            try await database.query(
                "update breakwater.worker set beat_at = now() - interval '1 h' where id = $1",
                [.int8(silent)]
            )
            try await database.query(
                "update breakwater.worker set state = 'draining', running = 7 where id = $1",
                [.int8(draining)]
            )
            try await database.query("select breakwater.pause_kind('k', 'why')")
            try await database.query(
                """
                insert into breakwater.dead_letter (id, queue, kind, priority, payload, reason, attempt, enqueued_at, died_at)
                values (1, 'default', 'k', 5, '{}', 'exhausted', 1, now(), now()),
                       (2, 'default', 'k', 5, '{}', 'poison', 1, now(), now()),
                       (3, 'default', 'k', 5, '{}', 'poison', 1, now(), now() - interval '1 h'),
                       (4, 'default', 'stray', 5, '{}', 'poison', 1, now(), now())
                """
            )
            let scrape = try await told(database)
            #expect(scrape["breakwater_fleet_dead_letters{kind=\"k\"}"] == 3)
            #expect(scrape["breakwater_fleet_recent_dead_letters{kind=\"k\",reason=\"exhausted\"}"] == 1)
            #expect(scrape["breakwater_fleet_recent_dead_letters{kind=\"k\",reason=\"poison\"}"] == 1)
            #expect(scrape["breakwater_fleet_recent_dead_letters{kind=\"other\",reason=\"poison\"}"] == 1)
            #expect(scrape["breakwater_fleet_workers{state=\"running\"}"] == 1)
            #expect(scrape["breakwater_fleet_workers{state=\"draining\"}"] == 1)
            #expect(scrape["breakwater_fleet_workers{state=\"silent\"}"] == 1)
            #expect(scrape["breakwater_fleet_slots"] == 200)
            #expect(scrape["breakwater_fleet_busy_slots"] == 7)
            #expect(scrape["breakwater_fleet_pauses{scope=\"kind\"}"] == 1)
            let sampledAt = try #require(scrape["breakwater_fleet_sample_timestamp_seconds"])
            #expect(abs(sampledAt - Date().timeIntervalSince1970) < 3600)
        }
    }

    @Test("exist for every configured kind, however many other kinds are enqueued")
    func inventedKinds() async throws {
        try await withTestDatabase { database in
            _ = try await register(database, ["zz"])
            try await database.query(
                "insert into breakwater.job (kind) select 'a' || i from generate_series(1, 3000) i"
            )
            try await database.query(
                "insert into breakwater.job (kind, run_at) select 'b' || i, now() + '1 h' from generate_series(1, 12000) i"
            )
            try await database.query("insert into breakwater.job (kind) select 'zz' from generate_series(1, 3)")
            try await database.query("insert into breakwater.job (kind, run_at) values ('zz', now() + interval '2 h')")
            let registry = MetricsRegistry()
            var report = FleetMetrics.Report(factory: registry)
            report.set(try await sample(database))
            let scrape = Scrape(registry)
            func jobs(_ kind: String, _ state: String) -> Double? {
                scrape["breakwater_fleet_jobs{kind=\"\(kind)\",queue=\"default\",state=\"\(state)\"}"]
                    ?? scrape["breakwater_fleet_jobs{queue=\"default\",kind=\"\(kind)\",state=\"\(state)\"}"]
            }
            #expect(jobs("zz", "ready") == 3)
            #expect(jobs("zz", "scheduled") == 1)
            #expect((jobs("other", "ready") ?? 0) >= 100)
            #expect(jobs("a1", "ready") == nil)
        }
    }

    @Test("show each circuit's state, the jobs behind it, and its transitions, also those made by users")
    func circuits() async throws {
        try await withTestDatabase { database in
            var keyed = HandlerSettings()
            keyed.circuit.key = .path(["host"])
            _ = try await register(database, ["plain", "calm"])
            _ = try await register(database, ["keyed"], settings: keyed)
            var shared = HandlerSettings()
            shared.circuit.key = .shared("gateway")
            _ = try await register(database, ["a", "b"], settings: shared)
            let registry = MetricsRegistry()
            var report = FleetMetrics.Report(factory: registry)
            try await database.query("select breakwater.open_circuit('calm', 'before')")
            try await database.query("select breakwater.reset_circuit('calm', 'before')")
            report.count(try await database.connection.call(TransitionsAfter(id: nil)))

            try await database.query("insert into breakwater.job (kind) select 'plain' from generate_series(1, 3)")
            try await database.query("insert into breakwater.job (kind) values ('a'), ('b'), ('calm')")
            try await database.query(
                "insert into breakwater.job (kind, run_at, parked) select 'keyed', 'infinity', 'h' from generate_series(1, 5)"
            )
            try await database.query("insert into breakwater.circuit (kind, key, state) values ('keyed', 'h', 'open')")
            try await database.query("select breakwater.open_circuit('plain', 'by hand')")
            try await database.query("select breakwater.open_circuit('*', 'by hand', key => 'gateway')")
            for _ in 1...2 {
                report.set(try await sample(database))
                // The same transitions arrive twice, as when a query begins further back.
                report.count(try await database.connection.call(TransitionsAfter(id: 0)))
            }
            let scrape = Scrape(registry)
            func state(_ circuit: String, _ state: String) -> Double? {
                scrape["breakwater_fleet_circuit_state{circuit=\"\(circuit)\",state=\"\(state)\"}"]
            }
            #expect(state("plain", "open") == 1 && state("plain", "closed") == 0 && state("plain", "half_open") == 0)
            #expect(state("gateway", "open") == 1)
            #expect(state("calm", "open") == 0 && state("calm", "closed") == 1)
            #expect(scrape["breakwater_fleet_keyed_circuits{kind=\"keyed\",state=\"open\"}"] == 1)
            #expect(scrape["breakwater_fleet_circuit_waiting_jobs{circuit=\"plain\"}"] == 3)
            #expect(scrape["breakwater_fleet_circuit_waiting_jobs{circuit=\"gateway\"}"] == 2)
            #expect(scrape["breakwater_fleet_circuit_waiting_jobs{circuit=\"keyed\"}"] == 5)
            #expect(scrape["breakwater_fleet_circuit_waiting_jobs{circuit=\"calm\"}"] == 0)
            func opened(_ circuit: String) -> Double? {
                scrape["breakwater_fleet_circuit_transitions_total{circuit=\"\(circuit)\",from=\"closed\",to=\"open\"}"]
            }
            #expect(opened("plain") == 1)
            #expect(opened("gateway") == 1)
            #expect(opened("calm") == 0)
        }
    }

    @Test("fall back to 0 when their subject is gone")
    func gone() async throws {
        try await withTestDatabase { database in
            _ = try await register(database, ["k"])
            let registry = MetricsRegistry()
            var report = FleetMetrics.Report(factory: registry)
            try await database.query("insert into breakwater.job (kind) values ('k')")
            report.set(try await sample(database))
            let series = "breakwater_fleet_jobs{kind=\"k\",queue=\"default\",state=\"ready\"}"
            #expect(Scrape(registry)[series] == 1)
            try await database.query("delete from breakwater.job")
            report.set(try await sample(database))
            #expect(Scrape(registry)[series] == 0)
        }
    }

    @Test("come from one sample that all workers share, as long as it is recent or being taken")
    func shared() async throws {
        try await withTestDatabase { database in
            let first = try await sample(database)
            #expect(try await sample(database, maxAge: .seconds(600)).sampledAt == first.sampledAt)
            let other = try await database.connect()
            // Another session is taking a sample, and does not finish it yet.
            _ = try await other.query("begin")
            _ = try await other.query("select breakwater.sample_fleet(0)")
            #expect(try await sample(database).sampledAt == first.sampledAt)
            _ = try await other.query("commit")
            #expect(try await sample(database, maxAge: .seconds(600)).sampledAt > first.sampledAt)
        }
    }

    @Test("read a bounded number of jobs, however many there are")
    func bounded() async throws {
        try await withTestDatabase { database in
            _ = try await register(database, ["k", "l"])
            try await database.query("insert into breakwater.job (kind) select 'k' from generate_series(1, 30000)")
            try await database.query(
                "insert into breakwater.job (kind, priority) select 'l', n % 10 from generate_series(1, 70000) n"
            )
            try await database.query(
                "insert into breakwater.job (kind, run_at) select 'k', now() + interval '1 h' from generate_series(1, 12000)"
            )
            let scrape = try await told(database)
            #expect(scrape["breakwater_fleet_jobs{kind=\"k\",queue=\"default\",state=\"ready\"}"] == 10000)
            #expect(scrape["breakwater_fleet_jobs{kind=\"l\",queue=\"default\",state=\"ready\"}"] == 40400)
            #expect(scrape["breakwater_fleet_jobs{kind=\"k\",queue=\"default\",state=\"scheduled\"}"] == 10000)
            // No plan may read the whole table, with or without statistics.
            try await database.query("select pg_stat_reset()")
            _ = try await sample(database)
            try await database.query("select pg_stat_force_next_flush()")
            let read = try await database.number(
                "select coalesce(sum(seq_tup_read), 0)::int from pg_stat_user_tables where relname = 'job'"
            )
            #expect(read == 0)
        }
    }

    @Test("count failed samples, and continue when the database is back")
    func failures() async throws {
        try await withTestDatabase { database in
            let registry = MetricsRegistry()
            try await database.query("alter function breakwater.sample_fleet rename to hidden")
            let fleet = FleetMetrics(
                database: database.options,
                interval: .milliseconds(20),
                maxAge: .zero,
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
                metrics: registry
            )
            let group = ServiceGroup(services: [fleet], logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            async let running: Void = group.run()
            try await waitUntil("failures are counted") {
                Scrape(registry)["breakwater_sample_failures_total"] ?? 0 > 1
            }
            try await database.query("alter function breakwater.hidden rename to sample_fleet")
            try await waitUntil("the fleet is told") { Scrape(registry)["breakwater_fleet_slots"] == 0 }
            await group.triggerGracefulShutdown()
            try await running
        }
    }

    @Test("are readable for the worker's role")
    func role() async throws {
        try await withTestDatabase { database in
            try await database.query("grant usage on schema breakwater to breakwater_worker")
            let user = try await database.connect()
            _ = try await user.query("set role breakwater_worker")
            #expect(try await user.call(SampleFleet(maxAge: .zero)) != nil)
            #expect(try await user.call(TransitionsAfter(id: nil)).newest == 0)
        }
    }
}
