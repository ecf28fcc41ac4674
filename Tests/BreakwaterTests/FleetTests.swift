import BreakwaterTesting
import Foundation
import Libpq
import Synchronization
import Testing

@testable import Breakwater

@Suite("A fleet through an outage", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct OutageTests {
    @Test("stops calling at once, costs the waiting jobs nothing, hinders no other kind, and recovers by itself")
    func outage() async throws {
        try await withTestDatabase { database in
            let up = Door()
            up.open()
            let (ran, calls) = (Notes(), Notes())
            let hook = HandlerRegistration(
                kind: "hook",
                plugin: ClosureHandler { job, _ in
                    try await Task.sleep(for: .milliseconds(2))
                    if up.isOpen {
                        ran.add("\(job.id)")
                        return .succeeded()
                    }
                    calls.add(job.isProbe ? "probe" : "call")
                    return .unavailable(JobFailure("down", "it is down"))
                },
                settings: {
                    var settings = HandlerSettings()
                    settings.concurrency = 5
                    settings.retry.base = .milliseconds(50)
                    settings.retry.cap = .milliseconds(200)
                    settings.circuit.minimumCalls = 10
                    settings.circuit.openFor = .seconds(1)
                    settings.circuit.openCap = .seconds(1)
                    settings.circuit.probes = 2
                    settings.circuit.successesToClose = 2
                    settings.circuit.ramp = .zero
                    return settings
                }()
            )
            let digest = HandlerRegistration(kind: "digest", plugin: ClosureHandler { _, _ in .succeeded() })
            try await database.insert(600, kind: "hook")
            try await database.withWorker([hook, digest]) {
                try await database.withWorker([hook, digest]) {
                    try await waitUntil("deliveries flow") { ran.all.count > 50 }
                    up.close()
                    try await waitUntil("the circuit opens") {
                        try await database.text("select state from breakwater.circuit where kind = 'hook'") == "open"
                    }
                    try await waitUntil("nothing of it is held any more") {
                        try await database.number(
                            "select count(*) from breakwater.held h join breakwater.job j on j.id = h.job where j.kind = 'hook'"
                        ) == 0
                    }
                    let spent = try await database.number(
                        "select sum(attempt)::int8 from breakwater.job where kind = 'hook'"
                    )
                    // Jobs of other kinds still run.
                    try await database.insert(500, kind: "digest")
                    try await waitUntil("the other kind's end") {
                        try await database.number("select count(*) from breakwater.job where kind = 'digest'") == 0
                    }
                    try await waitUntil("probes fail twice") {
                        try await database.number("select reopened from breakwater.circuit where kind = 'hook'") >= 2
                    }
                    let after = try await database.number(
                        """
                        select sum(attempt)::int8 from breakwater.job
                         where kind = 'hook' and id not in (select job from breakwater.held)
                        """
                    )
                    #expect(after <= spent)
                    up.open()
                    try await waitUntil("all are delivered") {
                        try await database.count("job") == 0
                    }
                }
            }
            #expect(Set(ran.all).count == 600)
            #expect(try await database.count("dead_letter") == 0)
            #expect(calls.counts["probe", default: 0] >= 2)
            let generations = try await database.numbers(
                "select generation from breakwater.circuit_transition where kind = 'hook' order by id"
            )
            #expect(generations == (2..<(2 + generations.count)).map { Int64($0) })
        }
    }
}

@Suite("Random outcomes", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct RandomTests {
    /// Decides how the jobs' handlers end, with a random generator of its own.
    private final class Fate: Sendable {
        private let generator: Mutex<SeededGenerator>

        init(seed: UInt64) { generator = Mutex(SeededGenerator(seed: seed)) }

        func roll(_ sides: Int) -> Int { generator.withLock { Int.random(in: 0..<sides, using: &$0) } }
    }

    @Test("every job ends exactly once, done or as a dead letter")
    func everyJobEnds() async throws {
        let given = ProcessInfo.processInfo.environment["BREAKWATER_SEED"].flatMap { UInt64($0) }
        let seed = given ?? UInt64.random(in: 0...UInt64.max)
        print("BREAKWATER_SEED=\(seed)")
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let fate = Fate(seed: seed)
            func handler(_ kind: String) -> HandlerRegistration {
                var settings = HandlerSettings()
                settings.concurrency = 1 + fate.roll(10)
                settings.timeout = .milliseconds(300)
                settings.keepResults = .seconds(3600)
                settings.retry.maxAttempts = 4
                settings.retry.base = .milliseconds(1)
                settings.retry.cap = .milliseconds(20)
                settings.circuit.minimumCalls = 20
                settings.circuit.openFor = .milliseconds(300)
                settings.circuit.openCap = .milliseconds(300)
                settings.circuit.ramp = .zero
                return HandlerRegistration(
                    kind: kind,
                    plugin: ClosureHandler { _, _ in
                        let failure = JobFailure("random", "by chance")
                        switch fate.roll(20) {
                        case 0: return .failed(failure)
                        case 1: return .unavailable(failure, retryAfter: fate.roll(2) == 0 ? .zero : nil)
                        case 2: return .throttled(failure, retryAfter: .milliseconds(fate.roll(20)))
                        case 3: return .discarded(failure)
                        case 4: return .snoozed(.milliseconds(fate.roll(20)))
                        case 5: return .released
                        case 6: throw failure
                        case 7 where fate.roll(30) == 0:
                            try await Task.sleep(for: .seconds(60))
                            return .succeeded()
                        case 8: return .succeeded(result: fate.roll(10) == 0 ? #""\u0000""# : "8")
                        default:
                            if fate.roll(3) == 0 { try await Task.sleep(for: .milliseconds(fate.roll(5))) }
                            return .succeeded(result: "\(kind.count)")
                        }
                    },
                    settings: settings
                )
            }
            let kinds = ["a", "b", "c"]
            // A trigger records each ending. A job that ended twice would violate this primary key.
            try await database.connection.script(
                """
                create table public.ended (id bigint primary key, how text);
                create function public.note() returns trigger language plpgsql as $$
                    begin insert into public.ended values (new.id, tg_table_name); return null; end $$;
                create trigger note after insert on breakwater.result for each row execute function public.note();
                create trigger note after insert on breakwater.dead_letter for each row execute function public.note();
                """
            )
            let total = 1500
            let configure = { @Sendable (configuration: inout WorkerConfiguration) in
                configuration.concurrency = 12
                configuration.pollInterval = .milliseconds(100)
            }
            let first = kinds.map { handler($0) }
            let second = kinds.map { handler($0) }
            try await database.withWorker(first, configure: configure) {
                try await database.withWorker(second, configure: configure) {
                    for round in 0..<15 {
                        try await database.query(
                            """
                            select breakwater.enqueue((array['a', 'b', 'c'])[1 + n % 3], to_jsonb(n), priority => n % 10,
                                       run_at => case when n % 7 = 0 then now() + interval '50 ms' end)
                              from generate_series(1, \(total / 15)) n
                            """
                        )
                        if round % 5 == 4 {
                            try await database.query(
                                """
                                select count(pg_terminate_backend(pid)) from pg_stat_activity
                                 where datname = current_database() and pid <> pg_backend_pid()
                                """
                            )
                        }
                        try await Task.sleep(for: .milliseconds(fate.roll(100)))
                    }
                    try await waitUntil("all end", deadline: .seconds(120)) {
                        // A job whose outcome could not be stored waits a minute. The test shortens that.
                        try await database.query(
                            "update breakwater.job set run_at = now() where run_at > now() + interval '10 s'"
                        )
                        return try await database.count("job") == 0
                    }
                }
            }
            #expect(try await database.number("select count(*) from public.ended") == total)
            #expect(try await database.claimsWithJobs() == 0)
            #expect(try await database.count("probe") == 0)
            #expect(
                try await database.number(
                    "select count(*) from breakwater.dead_letter where reason not in ('exhausted', 'discarded')"
                ) == 0
            )
        }
    }
}
