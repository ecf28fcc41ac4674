import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

@Suite("Settling", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct SettleTests {
    struct Standing: Equatable {
        var attempt: Int
        var isScheduled: Bool
        var errors: [String]
    }

    /// Reads the state of a job that no worker holds. Returns nil if the job is gone or held.
    private func standing(_ database: TestDatabase, id: Int64 = 1) async throws -> Standing? {
        let rows = try await database.query(
            """
            select attempt, run_at is not null, array(select e ->> 'class' from jsonb_array_elements(errors) e)
              from breakwater.job where id = $1 and id not in (select job from breakwater.held)
            """,
            [.int8(id)]
        )
        guard let row = rows.first else { return nil }
        return Standing(attempt: try row[0].int(), isScheduled: try row[1].bool(), errors: try row[2].stringArray())
    }

    @Test("a success ends the job, and its claim when none of its jobs is left")
    func succeeded() async throws {
        try await withTestDatabase { database in
            try await database.insert(3)
            let worker = try await HandWorker(database)
            let jobs = try await worker.claim()
            #expect(try await worker.settle(Array(jobs[..<2])).settled == 2)
            #expect(try await database.claimsWithJobs() == 1)
            #expect(try await worker.settle([jobs[2]], claims: [jobs[0].lease]).settled == 1)
            #expect(try await database.claimsWithJobs() == 0)
            #expect(try await database.count("job") == 0)
            #expect(try await database.count("dead_letter") == 0)
        }
    }

    @Test("an outcome class that spends keeps the attempt, and one that does not hands it back")
    func classes() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let cases: [(FinishedRun.Ending, Standing)] = [
                (.failed(), Standing(attempt: 1, isScheduled: false, errors: ["failed"])),
                (.failed(delay: .seconds(9)), Standing(attempt: 1, isScheduled: true, errors: ["failed"])),
                (.unavailable(delay: .seconds(9)), Standing(attempt: 1, isScheduled: true, errors: ["unavailable"])),
                (.throttled(), Standing(attempt: 0, isScheduled: true, errors: ["throttled"])),
                (.throttled(delay: .seconds(9)), Standing(attempt: 0, isScheduled: true, errors: ["throttled"])),
                (.snoozed(.seconds(9)), Standing(attempt: 0, isScheduled: true, errors: [])),
                (.snoozed(.seconds(-9)), Standing(attempt: 0, isScheduled: false, errors: [])),
                (.released, Standing(attempt: 0, isScheduled: false, errors: [])),
            ]
            try await database.insert(cases.count)
            for (job, (ending, expected)) in zip(try await worker.claim(), cases) {
                try await worker.settle([job], ending)
                #expect(try await standing(database, id: job.id) == expected, "\(ending)")
            }
        }
    }

    @Test("a throttled job without a delay waits a second, and twice as long with each repeat, up to an hour")
    func throttled() async throws {
        try await withTestDatabase { database in
            try await database.insert()
            let worker = try await HandWorker(database)
            func settle(_ ending: FinishedRun.Ending) async throws -> Double {
                #expect(try await worker.runOne(ending))
                let rows = try await database.query(
                    "select extract(epoch from run_at - ready_at)::float8 from breakwater.job"
                )
                // The job is due at once for the next round.
                try await database.query("update breakwater.job set run_at = null")
                return try rows[0][0].double()
            }
            for repeats in 0..<15 {
                let floor = min(3600, Double(1 << repeats))
                let wait = try await settle(.throttled(delay: .seconds(repeats % 2 == 0 ? 0 : -60)))
                #expect((floor...floor * 1.5).contains(wait), "after \(repeats) repeats")
            }
            #expect(try await settle(.throttled(delay: .seconds(2))) == 2)
            // Another error in between ends the series of throttled runs.
            #expect(try await settle(.failed(delay: .seconds(1))) == 1)
            let wait = try await settle(.throttled())
            #expect((1...1.5).contains(wait))
        }
    }

    @Test("a discarded job goes to the dead letters at once, with its error")
    func discarded() async throws {
        try await withTestDatabase { database in
            try await database.query(
                "select breakwater.enqueue('k', '7', 'default', 3, max_attempts => 9, unique_key => 'u', traceparent => 't')"
            )
            let worker = try await HandWorker(database)
            try await worker.runOne(.discarded)
            let letter = try await database.query("select * from breakwater.dead_letter")[0]
            #expect(try letter["reason"].string() == "discarded")
            #expect(try letter["attempt"].int() == 1)
            #expect(try letter["errors"].string().contains("it is bad"))
            // The dead letter keeps everything about the job, and a redrive restores it.
            #expect(try await database.query("select breakwater.redrive(1::bigint)")[0][0].bool())
            let job = try await database.query("select * from breakwater.job")[0]
            #expect(try job["payload"].string() == "7")
            #expect(try job["priority"].int() == 3)
            #expect(try job["max_attempts"].int() == 9)
            #expect(try job["unique_key"].string() == "u")
            #expect(try job["traceparent"].string() == "t")
            #expect(try job["attempt"].int() == 0)
            #expect(try await worker.runOne(.succeeded))
            #expect(try await database.count("job") == 0)
        }
    }

    @Test("the last attempt's failure dead-letters the job as exhausted, with the history of every attempt")
    func exhausted() async throws {
        try await withTestDatabase { database in
            try await database.insert(1, maxAttempts: 3)
            let worker = try await HandWorker(database)
            for attempt in 1...3 {
                #expect(try await worker.runOne(.snoozed()))
                #expect(try await worker.runOne(.failed("error.\(attempt)")))
            }
            let letter = try await database.query("select reason, attempt, errors from breakwater.dead_letter")[0]
            #expect(try letter[0].string() == "exhausted")
            #expect(try letter[1].int() == 3)
            let names = try await database.texts(
                "select e ->> 'name' from breakwater.dead_letter, jsonb_array_elements(errors) e"
            )
            #expect(names == ["error.1", "error.2", "error.3"])
            let attempts = try await database.texts(
                "select e ->> 'attempt' from breakwater.dead_letter, jsonb_array_elements(errors) e"
            )
            #expect(attempts == ["1", "2", "3"])
            let workers = try await database.texts(
                "select distinct e ->> 'worker' from breakwater.dead_letter, jsonb_array_elements(errors) e"
            )
            #expect(workers == ["\(worker.id)"])
            let workerNames = try await database.texts(
                "select distinct e ->> 'worker_name' from breakwater.dead_letter, jsonb_array_elements(errors) e"
            )
            #expect(workerNames == ["by hand"])
        }
    }

    @Test("a job without a limit of its own follows its handler's")
    func handlersLimit() async throws {
        try await withTestDatabase { database in
            try await database.insert()
            let worker = try await HandWorker(database, settings: { $0.retry.maxAttempts = 2 })
            #expect(try await worker.runOne(.failed()))
            #expect(try await worker.runOne(.unavailable()))
            #expect(try await database.texts("select reason from breakwater.dead_letter") == ["exhausted"])
        }
    }

    @Test("a history keeps its newest 25 errors")
    func boundedHistory() async throws {
        try await withTestDatabase { database in
            try await database.insert(1, maxAttempts: 100)
            let worker = try await HandWorker(database, settings: { $0.circuit.isEnabled = false })
            for attempt in 1...30 { #expect(try await worker.runOne(.failed("error.\(attempt)"))) }
            let names = try await database.texts(
                "select e ->> 'name' from breakwater.job, jsonb_array_elements(errors) e"
            )
            #expect(names == (6...30).map { "error.\($0)" })
        }
    }

    @Test("a long message is cut")
    func longMessage() async throws {
        try await withTestDatabase { database in
            try await database.insert()
            let worker = try await HandWorker(database)
            let failure = JobFailure(String(repeating: "n", count: 999), String(repeating: "é", count: 99_999))
            try await worker.runOne(FinishedRun.Ending(outcomeClass: .failed, failure: failure, delay: .zero))
            let row = try await database.query(
                "select length(errors -> 0 ->> 'name'), length(errors -> 0 ->> 'message') from breakwater.job"
            )[0]
            #expect(try row[0].int() == 200)
            #expect(try row[1].int() == 8192)
        }
    }

    @Test("with a stale lease changes nothing, and is reported", arguments: [FinishedRun.Ending.succeeded, .failed()])
    func stale(ending: FinishedRun.Ending) async throws {
        try await withTestDatabase { database in
            try await database.insert(2)
            let worker = try await HandWorker(database)
            let first = try await worker.claim()
            _ = try await worker.connection.call(Reconcile(worker: worker.id, known: []))
            // The same worker holds job 1 again, and another job, under newer leases.
            let again = try await worker.claim(1)
            try await database.insert()
            let other = try await worker.claim()
            #expect(again.map(\.id) == [1])
            let old = try #require(first.first { $0.id == 1 })
            // The stale run is settled together with a run that has the newest lease.
            let output = try await worker.settle([old] + other, ending)
            #expect(output.stale == [1])
            #expect(output.settled == other.count)
            #expect(try await database.numbers("select lease from breakwater.held where job = 1") == [again[0].lease])
            #expect(try await database.numbers("select worker from breakwater.held where job = 1") == [worker.id])
            #expect(try await worker.settle(again).settled == 1)
        }
    }

    @Test("a stale run that is settled beside a job of the worker's newer claim changes nothing either")
    func staleBesideItsNewerLease() async throws {
        try await withTestDatabase { database in
            try await database.insert(2)
            let worker = try await HandWorker(database)
            let first = try await worker.claim(1)
            _ = try await worker.connection.call(Reconcile(worker: worker.id, known: []))
            // The second claim gives both jobs one lease. Job 1 is then settled under its old lease, beside job 2 under
            // the new one.
            let again = try await worker.claim()
            #expect(Set(again.map(\.id)) == [1, 2])
            let second = try #require(again.first { $0.id == 2 })
            let output = try await worker.settle([first[0], second])
            #expect(output.stale == [1])
            #expect(output.settled == 1)
            #expect(try await database.numbers("select id from breakwater.job") == [1])
        }
    }

    @Test("twice is harmless", arguments: [FinishedRun.Ending.succeeded, .failed(), .discarded, .released])
    func twice(ending: FinishedRun.Ending) async throws {
        try await withTestDatabase { database in
            try await database.insert(5)
            let worker = try await HandWorker(database)
            let jobs = try await worker.claim()
            #expect(try await worker.settle(jobs, ending).settled == 5)
            let before = try await database.text("select jsonb_agg(j order by id)::text from breakwater.job j")
            let repeated = try await worker.settle(jobs, ending)
            #expect(repeated.settled == 0)
            #expect(Set(repeated.stale) == Set(jobs.map(\.id)))
            let after = try await database.text("select jsonb_agg(j order by id)::text from breakwater.job j")
            #expect(after == before)
            #expect(try await database.count("dead_letter") == (ending == .discarded ? 5 : 0))
        }
    }

    @Test("by another worker changes nothing")
    func foreign() async throws {
        try await withTestDatabase { database in
            try await database.insert()
            let owner = try await HandWorker(database)
            let other = try await HandWorker(database)
            let jobs = try await owner.claim()
            #expect(try await other.settle(jobs).stale == [1])
            #expect(try await other.settle(jobs, .discarded).stale == [1])
            #expect(try await owner.settle(jobs).settled == 1)
        }
    }

    @Test("a job that was deleted by hand while it ran is reported, and hinders none of the others")
    func deletedByHand() async throws {
        try await withTestDatabase { database in
            try await database.insert(3)
            let worker = try await HandWorker(database)
            let jobs = try await worker.claim()
            try await database.query("delete from breakwater.job where id = 2")
            let output = try await worker.settle(jobs)
            #expect(output.settled == 2)
            #expect(output.stale == [2])
        }
    }

    @Test("keeps results for as long as the handler says, and none where it says nothing")
    func results() async throws {
        try await withTestDatabase { database in
            let keeper = try await HandWorker(database, settings: { $0.keepResults = .seconds(600) })
            let other = try await HandWorker(database, ["other"])
            try await database.insert(2)
            try await database.insert(kind: "other")
            let jobs = try await keeper.claim()
            var run = FinishedRun(jobs[0], .succeeded)
            run.ending.result = #"{"sum": 7}"#
            _ = try await keeper.connection.call(
                Settle(worker: keeper.id, runs: [run, FinishedRun(jobs[1], .succeeded)], claims: [])
            )
            var unwanted = FinishedRun(try await other.claim()[0], .succeeded)
            unwanted.ending.result = "1"
            _ = try await other.connection.call(Settle(worker: other.id, runs: [unwanted], claims: []))
            let kept = try await database.query(
                "select id, result, expires_at - finished_at, by_fallback from breakwater.result order by id"
            )
            #expect(kept.count == 2)
            #expect(try kept[0][1].string() == #"{"sum": 7}"#)
            #expect(kept[1][1].isNull)
            #expect(try kept[0][2].interval() == .seconds(600))
            #expect(try !kept[0][3].bool())
            // The leader's chores delete results that have expired.
            try await database.query("update breakwater.result set expires_at = now() - interval '1 s'")
            try await keeper.maintain()
            #expect(try await database.count("result") == 0)
        }
    }

    @Test("a redrive is refused while a newer job has its unique key, and the dead letter stays")
    func redriveUnique() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.query("select breakwater.enqueue('k', unique_key => 'u')")
            try await worker.runOne(.discarded)
            try await database.query("select breakwater.enqueue('k', unique_key => 'u')")
            let error = await postgresError { try await database.query("select breakwater.redrive(1::bigint)") }
            #expect(error?.sqlState == "23505")
            #expect(try await database.number("select breakwater.redrive('k')") == 0)
            #expect(try await database.count("dead_letter") == 1)
            try await worker.runOne(.succeeded)
            #expect(try await database.number("select breakwater.redrive('k')") == 1)
            #expect(try await worker.claim().map(\.id) == [1])
        }
    }

    @Test("dead letters that are redriven together have all their attempts again")
    func bulkRedriveResetsAttempts() async throws {
        try await withTestDatabase { database in
            try await database.insert(1, maxAttempts: 1)
            let worker = try await HandWorker(database)
            #expect(try await worker.runOne(.failed()))
            #expect(try await database.number("select attempt from breakwater.dead_letter") == 1)
            #expect(try await database.number("select breakwater.redrive('k')") == 1)
            #expect(try await database.number("select attempt from breakwater.job") == 0)
        }
    }

    @Test("a redriven job waits behind an open circuit like any other, and spends nothing on it")
    func redriveBehindCircuit() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert()
            try await worker.runOne(.discarded)
            try await database.query("select breakwater.open_circuit('k', 'it is down')")
            #expect(try await database.query("select breakwater.redrive(1::bigint)")[0][0].bool())
            #expect(try await worker.claim().isEmpty)
            #expect(try await database.text("select state from breakwater.job_status") == "circuit_open")
            try await database.query("select breakwater.reset_circuit('k', 'it is back')")
            #expect(try await worker.claim().map(\.attempt) == [1])
        }
    }
}

@Suite("Outcomes that cannot be stored", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct UnstorableTests {
    @Test("fail alone, and their neighbours end as they should")
    func badResults() async throws {
        try await withTestDatabase { database in
            try await database.insert(60)
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { job, _ in
                    let bad = [10: #""\u0000""#, 20: "not json", 30: "{", 40: "", 50: #"{"a": "\ud800"}"#, 60: "a\0b"]
                    return .succeeded(result: bad[Int(job.id)] ?? "1")
                },
                settings: {
                    var settings = HandlerSettings()
                    settings.keepResults = .seconds(600)
                    return settings
                }()
            )
            try await database.withWorker([handler]) {
                try await waitUntil("all but six end, and those are settled") {
                    try await database.number("select count(*) from breakwater.job where run_at is null") == 0
                }
            }
            let rows = try await database.query(
                "select id, attempt, errors -> 0 ->> 'name' from breakwater.job order by id"
            )
            #expect(try rows.map { try $0[0].int() } == [10, 20, 30, 40, 50, 60])
            #expect(try rows.allSatisfy { try $0[1].int() == 1 })
            #expect(try rows.allSatisfy { try $0[2].string() == "unstorable" })
            #expect(try await database.count("result") == 54)
        }
    }

    @Test("errors with U+0000 and enormous texts are stored as far as they can be")
    func strangeErrors() async throws {
        try await withTestDatabase { database in
            try await database.insert(10)
            let handler = ClosureHandler { job, _ in
                .discarded(JobFailure("a\0b", "\u{FEFF}\0" + String(repeating: "💥", count: 20_000)))
            }
            try await database.withWorker([HandlerRegistration(kind: "k", plugin: handler)]) {
                try await waitUntil("all end") { try await database.count("job") == 0 }
            }
            #expect(try await database.count("dead_letter") == 10)
            #expect(
                try await database.text("select errors -> 0 ->> 'name' from breakwater.dead_letter limit 1")
                    == "a\u{FFFD}b"
            )
        }
    }

    @Test("a delay beyond what Postgres can count is as long as a delay may be")
    func endlessSnooze() async throws {
        try await withTestDatabase { database in
            try await database.insert(10)
            let handler = ClosureHandler { job, _ in job.id == 5 ? .snoozed(.seconds(Int64.max)) : .succeeded() }
            try await database.withWorker([HandlerRegistration(kind: "k", plugin: handler)]) {
                try await waitUntil("all but one end") {
                    try await database.number("select count(*) from breakwater.job where run_at is null") == 0
                }
            }
            let waits = "select run_at > now() + interval '99 years' and errors is null from breakwater.job"
            #expect(try await database.query(waits)[0][0].bool())
        }
    }
}
