import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

@Suite("A worker that cannot run its jobs", .enabled(if: TestDatabase.isAvailable, Comment(rawValue: needsServer)))
struct UnableTests {
    /// Rules with which one failure would open the circuit.
    private static func rules(_ settings: inout HandlerSettings) {
        settings.circuit.consecutiveFailures = 1
        settings.circuit.minimumCalls = 1
        settings.circuit.failureRate = 0.01
        settings.circuit.countOn = ["*"]
        settings.circuit.tripOn = ["worker.*"]
        settings.retry.maxAttempts = 1
    }

    private func times(_ database: TestDatabase) async throws -> [Int64] {
        try await database.numbers("select times from breakwater.suspension where is_local order by kind")
    }

    @Test("is suspended for longer each time, then tries one job at a time, until one ends in another way")
    func suspension() async throws {
        try await withTestDatabase { database in
            let poor = try await HandWorker(database, settings: Self.rules)
            let rich = try await HandWorker(database, settings: Self.rules)
            try await database.insert(200)
            poor.setClock(0)
            let first = try await poor.claim(24)
            try await poor.settle(Array(first.prefix(12)), .unable)
            try await poor.settle(Array(first.suffix(12)), .unable)
            #expect(try await times(database) == [1], "those that were running say nothing new")

            var time = 0.0
            for (round, length) in [5.0, 10, 20, 40, 60, 60].enumerated() {
                poor.setClock(time + length - 0.1)
                #expect(try await poor.claim(24).isEmpty, "round \(round)")
                #expect(try await poor.call(Beat(worker: poor.id, isDraining: false, running: 0)).stopped["k"] == .max)
                rich.setClock(time + length - 0.1)
                #expect(try await rich.claim(1).count == 1, "another worker goes on")
                time += length
                poor.setClock(time)
                let trial = try await poor.claim(24)
                #expect(trial.count == 1, "round \(round)")
                #expect(try await poor.claim(24).isEmpty, "the trial still runs")
                try await poor.settle(trial, .unable)
                #expect(try await times(database) == [Int64(round) + 2])
            }
            poor.setClock(time + 60)
            try await poor.settle(try await poor.claim(24), .released)
            #expect(try await times(database) == [7], "a run that was given up says nothing")
            try await poor.settle(try await poor.claim(24), .discarded)
            #expect(try await times(database) == [], "a run that ended in another way took place")
            #expect(try await poor.claim(24).count == 24)

            #expect(try await database.number("select max(attempt) from breakwater.job") == 0)
            #expect(try await database.count("dead_letter") == 1)
            #expect(try await database.count("circuit_transition") == 0)
            #expect(try await database.number("select coalesce(sum(failed), 0) from breakwater.tally") == 0)
        }
    }

    @Test("its trial is one job, however much room it keeps for other kinds, and however many lanes have jobs")
    func trial() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["k", "other"], settings: Self.rules)
            try await database.query(
                "insert into breakwater.job (kind, priority) select 'k', n % 10 from generate_series(1, 30) n"
            )
            try await database.insert(2, kind: "other")
            worker.setClock(0)
            let jobs = try await worker.claim(4, room: ["k": 4])
            try await worker.settle(jobs, .unable)
            let other = try await worker.claim(2, room: ["other": 2])
            #expect(other.count == 2)
            worker.setClock(6)
            let trial = try await worker.claim(24, room: ["k": 500])
            #expect(trial.count == 1)
            #expect(try await worker.claim(24, room: ["k": 500]).isEmpty)
            try await worker.settle(trial)
            #expect(try await worker.claim(24, room: ["k": 500]).count == 24)
        }
    }

    @Test("a success ends it, but not before its time is over", arguments: [false, true])
    func success(looksUp: Bool) async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, settings: Self.rules)
            try await database.insert(10)
            worker.setClock(0)
            var jobs = try await worker.claim(4, room: ["k": 4])
            try await worker.settle([jobs.removeLast()], .unable)
            // The job's row has moved, so the server settles the whole batch by looking the jobs up.
            if looksUp { try await database.query("update breakwater.job set payload = '[]'") }
            worker.setClock(4)
            try await worker.settle([jobs.removeLast()])
            #expect(try await times(database) == [1])
            worker.setClock(6)
            try await worker.settle([jobs.removeLast()])
            #expect(try await times(database) == [])
        }
    }

    @Test("the job waits longer each time, keeps its attempts and its crashes, and says why")
    func job() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, settings: Self.rules)
            try await database.insert()
            for length in [1.0, 2, 4, 8, 16, 32, 60, 60] {
                try await database.query("update breakwater.job set run_at = null, crashes = 1")
                try await database.query("delete from breakwater.suspension")
                try await worker.settle(try await worker.claim(), .unable)
                let wait = try await database.query(
                    "select extract(epoch from run_at - now())::float8 from breakwater.job"
                )[0][0].double()
                #expect((length - 1...length * 1.5).contains(wait), "\(length) s: \(wait)")
            }
            let job = try await database.query(
                """
                select attempt, crashes, errors -> -1 ->> 'class', errors -> -1 ->> 'name', errors -> -1 ->> 'message',
                       jsonb_array_length(errors)
                  from breakwater.job
                """
            )[0]
            #expect(try job[0].int() == 0)
            #expect(try job[1].int() == 1)
            #expect(try job[2].string() == "unable")
            #expect(try job[3].string() == "worker.EMFILE")
            #expect(try job[4].string().contains("ulimit -n"))
            #expect(try job[5].int() == 8)
        }
    }

    @Test("a suspect stays a suspect")
    func suspect() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, settings: Self.rules)
            try await database.insert()
            try await database.query("update breakwater.job set crashes = 2, run_at = 'infinity'")
            try await worker.settle(try await worker.claimSuspects(), .unable)
            #expect(try await database.number("select crashes from breakwater.job where run_at = 'infinity'") == 2)
            #expect(try await worker.claimSuspects().isEmpty, "not on this worker, for now")
            let other = try await HandWorker(database, settings: Self.rules)
            #expect(try await other.claimSuspects().count == 1)
        }
    }

    @Test(
        "holds for the kind alone, whichever circuit it has",
        arguments: [nil, CircuitPolicy.Key.shared("dependency"), .path(["host"])],
        [true, false]
    )
    func circuits(key: CircuitPolicy.Key?, isEnabled: Bool) async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["k", "other"]) { settings in
                Self.rules(&settings)
                settings.circuit.key = key
                settings.circuit.isEnabled = isEnabled
            }
            for kind in ["k", "other"] { try await database.insert(20, kind: kind) }
            worker.setClock(0)
            let jobs = try await worker.claim(2, room: ["k": 2])
            try await worker.settle(jobs, .unable)
            worker.setClock(1)
            #expect(try await worker.claim(4, room: ["k": 4]).isEmpty)
            #expect(try await worker.claim(4, room: ["other": 4]).count == 4)
            worker.setClock(6)
            #expect(try await worker.claim(4, room: ["k": 4]).count == 1)
            #expect(try await database.count("circuit_transition") == 0)
        }
    }

    @Test("also holds for parked jobs of a key's half-open circuit, and one of them is the trial")
    func parked() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.circuit.key = .path(["host"]) }
            try await database.query("insert into breakwater.circuit (kind, key, state) values ('k', 'a', 'half_open')")
            try await database.query(
                "insert into breakwater.job (kind, payload) select 'k', '{\"host\": \"a\"}' from generate_series(1, 5)"
            )
            try await database.query("update breakwater.job set parked = 'a', run_at = 'infinity'")
            try await database.query("select breakwater.suspend_self(\(worker.id), 'k', 'no')")
            #expect(try await worker.claim(5).isEmpty)
            try await database.query("update breakwater.suspension set until = now()")
            #expect(try await worker.claim(5).count == 1)
        }
    }

    @Test("a probe that could not be run decides nothing, and gives its place to another job")
    func probe() async throws {
        try await withTestDatabase { database in
            let poor = try await HandWorker(database, settings: Self.rules)
            let rich = try await HandWorker(database) { settings in
                Self.rules(&settings)
                settings.circuit.probes = 1
            }
            try await database.insert(5)
            try await database.query("update breakwater.circuit set state = 'half_open'")
            let probe = try await poor.claim()
            #expect(probe.map(\.isProbe) == [true])
            try await poor.settle(probe, .unable)
            #expect(try await database.text("select state from breakwater.circuit") == "half_open")
            #expect(try await database.count("probe") == 0)
            #expect(try await rich.claim().map(\.isProbe) == [true])
        }
    }

    @Test("is not mistaken for a worker that the breaker suspends")
    func beside() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { settings in
                settings.circuit.consecutiveFailures = 5
                settings.circuit.minimumCalls = 50
            }
            try await database.insert(6)
            worker.setClock(0)
            var jobs = try await worker.claim(6)
            try await worker.settle([jobs.removeLast()], .unable)
            #expect(try await database.number("select suspended_workers from breakwater.circuit_status") == 0)
            // The worker's calls still count, and a circuit that opens leaves it suspended.
            worker.setClock(1)
            let last = jobs.removeLast()
            try await worker.settle(jobs, .failed(delay: .seconds(60)))
            let counted =
                "select (breakwater.window_of(c, h, null)).calls from breakwater.circuit c, breakwater.handler h"
            #expect(try await worker.query(counted)[0][0].int() == 4)
            try await worker.settle([last], .failed(delay: .seconds(60)))
            #expect(try await database.text("select state from breakwater.circuit") == "open")
            #expect(try await database.text("select reason from breakwater.circuit") == "5 failures in a row")
            #expect(try await times(database) == [1])
        }
    }

    @Test("can be suspended by the breaker as well")
    func both() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(5)
            try await database.query("select breakwater.suspend_self(\(worker.id), 'k', 'no')")
            try await database.query(
                """
                select breakwater.suspend(c, h, \(worker.id), 'fails')
                  from breakwater.circuit c, breakwater.handler h
                """
            )
            let rows = try await database.query(
                "select circuit, worker_name, is_local, reason from breakwater.suspension_status order by is_local"
            )
            #expect(try rows.map { try $0[2].bool() } == [false, true])
            #expect(try rows.map { try $0[3].string() } == ["fails", "no"])
            #expect(try await worker.claim().isEmpty)
            for isLocal in [true, false] {
                try await database.query(
                    "update breakwater.suspension set until = now() + case when is_local = $1 then '0' else '1 h' end::interval",
                    [.bool(isLocal)]
                )
                #expect(try await worker.claim().isEmpty, "one is over, the other is not")
            }
            try await database.query("update breakwater.suspension set until = now() + interval '1 hour'")
            try await database.query("delete from breakwater.suspension where is_local")
            #expect(try await worker.claim().isEmpty)
            try await database.query("delete from breakwater.suspension")
            #expect(try await worker.claim().count == 5)
        }
    }

    @Test("the state of a waiting job says so, as long as no other worker can take it")
    func why() async throws {
        try await withTestDatabase { database in
            let poor = try await HandWorker(database)
            try await database.insert()
            let why = "select why from breakwater.job_status"
            #expect(try await database.text(why) == "waiting for a free worker")
            try await database.query("select breakwater.suspend_self(\(poor.id), 'k', 'all 64 files are open')")
            let text = try await database.text(why)
            #expect(text.hasPrefix("every worker that handles 'k' has suspended itself, by hand until "), "\(text)")
            #expect(text.hasSuffix(": all 64 files are open"))
            _ = try await HandWorker(database)
            #expect(try await database.text(why) == "waiting for a free worker")
        }
    }

    @Test("a Swift handler reports it, or throws Foundation's error, and the worker runs the job when it can")
    func handler() async throws {
        try await withTestDatabase { database in
            let runs = Notes()
            let handler = ClosureHandler { job, _ in
                runs.add("\(job.id)")
                guard runs.counts["\(job.id)", default: 0] == 1 else { return .succeeded() }
                if job.id % 2 == 0 { throw POSIXError(.EMFILE) }
                return .unable(JobFailure("worker.GPU", "the worker's only GPU is gone"))
            }
            var settings = HandlerSettings()
            Self.rules(&settings)
            try await database.insert(4)
            let registration = HandlerRegistration(kind: "k", plugin: handler, settings: settings)
            try await database.withWorker([registration]) {
                try await waitUntil("the jobs have been run once") {
                    try await database.number("select count(*) from breakwater.job where errors is not null") == 4
                }
                try await database.query("update breakwater.suspension set until = now()")
                try await waitUntil("the jobs have succeeded") { try await database.count("job") == 0 }
            }
            #expect(try await database.count("dead_letter") == 0)
            #expect(try await database.count("circuit_transition") == 0)
            #expect(try await database.count("suspension") == 0)
        }
    }
}

extension FinishedRun.Ending {
    /// The failure of a worker that has no descriptors left.
    static let unable = FinishedRun.Ending(
        outcomeClass: .unable,
        failure: JobFailure(limit: EMFILE, while: "running the job")
    )
}
