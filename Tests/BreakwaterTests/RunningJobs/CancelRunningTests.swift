import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Running jobs that a user cancels", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct CancelRunningTests {
    /// A handler that runs until it is cancelled or the door opens, and then ends as the outcome says.
    private func handler(_ door: Door, _ outcome: JobOutcome? = nil) -> HandlerRegistration {
        HandlerRegistration(
            kind: "k",
            plugin: ClosureHandler { _, _ in
                do {
                    try await door.pass()
                } catch {
                    if let outcome { return outcome }
                    throw error
                }
                return .succeeded()
            }
        )
    }

    @discardableResult
    private func cancel(_ id: Int64, _ database: TestDatabase) async throws -> Bool {
        try await database.query("select breakwater.cancel($1, 'wrong file', 'ann')", [.int8(id)])[0][0].bool()
    }

    private func letters(_ database: TestDatabase) async throws -> [String] {
        try await database.texts(
            """
            select concat_ws('|', id, reason, attempt, errors -> -1 ->> 'class', errors -> -1 ->> 'message')
              from breakwater.dead_letter order by id
            """
        )
    }

    private static let letter = "cancelled|0|cancelled|ann cancelled it: wrong file"

    @Test("are cancelled by their worker, and become dead letters", arguments: [true, false])
    func cancels(listens: Bool) async throws {
        try await withTestDatabase { database in
            let door = Door()
            try await database.insert()
            try await database.withWorker(
                [handler(door)],
                configure: {
                    $0.listens = listens
                    $0.lease = .seconds(60)
                }
            ) {
                try await waitUntil("it runs") { door.waiting == 1 }
                #expect(try await cancel(1, database))
                try await waitUntil("it ends") { try await database.count("dead_letter") == 1 }
                #expect(try await letters(database) == ["1|" + Self.letter])
            }
            #expect(try await database.count("cancel_request") == 0)
            #expect(try await database.claimsWithJobs() == 0)
            let audit = try await database.texts("select actor || ' ' || action || ' ' || reason from breakwater.audit")
            #expect(audit == ["ann job.cancel wrong file"])
            #expect(try await database.number("select coalesce(sum(failed), 0)::int8 from breakwater.tally") == 0)
        }
    }

    @Test("are cancelled between two heartbeats of a worker that gets no notifications")
    func betweenHeartbeats() async throws {
        try await withTestDatabase { database in
            let door = Door()
            try await database.insert(20)
            try await database.withWorker(
                [handler(door)],
                configure: {
                    $0.listens = false
                    $0.concurrency = 20
                    $0.lease = .seconds(60)
                }
            ) {
                try await waitUntil("they run") { door.waiting == 20 }
                var wasBetween = false
                // A heartbeat comes every five seconds, and may come first by chance.
                for id in 1...20 where !wasBetween {
                    let beat = try await database.text("select beat_at::text from breakwater.worker")
                    #expect(try await cancel(Int64(id), database))
                    try await waitUntil("it ends") { try await database.count("dead_letter") == id }
                    wasBetween = try await database.text("select beat_at::text from breakwater.worker") == beat
                }
                #expect(wasBetween)
                door.open()
            }
        }
    }

    @Test("end well if the run succeeds first")
    func successFirst() async throws {
        try await withTestDatabase { database in
            let door = Door()
            try await database.insert()
            try await database.withWorker([handler(door, .succeeded())]) {
                try await waitUntil("it runs") { door.waiting == 1 }
                #expect(try await cancel(1, database))
                try await waitUntil("it ends") { try await database.count("job") == 0 }
            }
            #expect(try await database.count("dead_letter") == 0)
            #expect(try await database.count("cancel_request") == 0)
            #expect(try await !cancel(1, database))
        }
    }

    @Test("are dead letters whatever their runs report, and no circuit counts them")
    func anyOutcome() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let endings: [FinishedRun.Ending] = [
                .failed(), .unavailable(), .throttled(), .discarded, .snoozed(.seconds(60)), .released,
                FinishedRun.Ending(outcomeClass: .unable, failure: JobFailure("limit", "none left")),
            ]
            try await database.insert(endings.count)
            let jobs = try await worker.claim()
            for job in jobs { #expect(try await cancel(job.id, database)) }
            let runs = zip(jobs, endings).map { FinishedRun($0, $1) }
            #expect(try await worker.call(Settle(worker: worker.id, runs: runs, claims: [jobs[0].lease])).settled == 7)
            #expect(try await letters(database) == jobs.map { "\($0.id)|" + Self.letter })
            #expect(try await database.count("job") == 0)
            #expect(try await database.count("cancel_request") == 0)
            #expect(try await database.number("select coalesce(sum(failed), 0)::int8 from breakwater.tally") == 0)
            #expect(try await database.count("suspension") == 0)
            // The history also has what the run said.
            let names = try await database.texts(
                "select errors -> 0 ->> 'name' from breakwater.dead_letter where id = 1"
            )
            #expect(names == ["broken"])
        }
    }

    @Test("become dead letters when their worker leaves or is lost", arguments: ["leave", "rescue"])
    func lostWorker(how: String) async throws {
        try await withTestDatabase { database in
            let (worker, other) = (try await HandWorker(database), try await HandWorker(database))
            try await database.insert(2)
            let jobs = try await worker.claim()
            #expect(try await cancel(1, database))
            if how == "leave" {
                #expect(try await worker.call(Leave(worker: worker.id)) == 1)
            } else {
                try await database.query(
                    "update breakwater.worker set beat_at = now() - interval '1 hour' where id = \(worker.id)"
                )
                #expect(try await other.maintain().rescued == 1)
            }
            #expect(try await letters(database) == ["1|" + Self.letter])
            #expect(try await database.count("cancel_request") == 0)
            #expect(try await other.claim().map(\.id) == [2])
            // The late result of a lost run changes nothing.
            #expect(try await worker.settle(jobs, .failed()).settled == 0)
            #expect(try await database.count("dead_letter") == 1)
        }
    }

    @Test("are cancelled even if they are settled at the same moment")
    func race() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert()
            let jobs = try await worker.claim()
            let person = try await database.connectDirectly()
            _ = try await person.query("begin")
            _ = try await person.query("select breakwater.cancel(1, 'wrong file', 'ann')")
            async let settled = worker.settle(jobs, .failed())
            try await waitUntil("the settle waits") {
                try await database.number(
                    "select count(*) from pg_locks where not granted and locktype = 'transactionid'"
                ) == 1
            }
            _ = try await person.query("commit")
            #expect(try await settled.settled == 1)
            #expect(try await letters(database) == ["1|" + Self.letter])
            await person.close()
        }
    }

    @Test("are named by heartbeats until they have ended, and by nothing else")
    func heartbeats() async throws {
        try await withTestDatabase { database in
            let (worker, other) = (try await HandWorker(database), try await HandWorker(database))
            try await database.insert(2)
            let jobs = try await worker.claim()
            #expect(try await worker.beat().cancelRequests == [])
            try await cancel(2, database)
            let expected: Set = [RunKey(id: 2, lease: jobs[1].lease)]
            #expect(try await worker.beat().cancelRequests == expected)
            #expect(try await worker.call(CancelRequests(worker: worker.id)) == expected)
            #expect(try await other.beat().cancelRequests == [])
            let why = try await database.text("select why from breakwater.job_status where id = 2")
            #expect(why.hasSuffix("; ann has cancelled it"), "\(why)")
            try await worker.settle(jobs, .released)
            #expect(try await worker.beat().cancelRequests == [])
        }
    }

    @Test("give their probe back to the circuit, and decide nothing there")
    func probe() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.circuit.consecutiveFailures = 3 }
            worker.setClock(0)
            try await database.insert(3)
            try await worker.settle(try await worker.claim(), .failed(delay: .seconds(600)))
            try await worker.failFirstChecks()
            try await database.insert()
            #expect(try await worker.query("select breakwater.run_through(4, 'is it back?', 'ann')")[0][0].bool())
            let shot = try await worker.claim()
            #expect(shot.map(\.isProbe) == [true])
            try await cancel(4, database)
            try await worker.settle(shot, .failed())
            #expect(try await letters(database) == ["4|" + Self.letter])
            #expect(try await database.count("probe") == 0)
            #expect(try await database.texts("select outcome from breakwater.probe_result") == ["released"])
            #expect(try await database.text("select state from breakwater.circuit where key = ''") == "open")
        }
    }

    @Test(
        "leave no requests behind: those of ended jobs are deleted, and jobs that were given back by hand are cancelled"
    )
    func stale() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(3)
            let jobs = try await worker.claim()
            for job in jobs { try await cancel(job.id, database) }
            // A user deletes one running job, and gives another one back by hand.
            try await database.query("delete from breakwater.job where id = 1")
            try await database.query("update breakwater.job set lease = \(jobs[1].lease) where id = 2")
            try await worker.maintain()
            #expect(try await database.numbers("select job from breakwater.cancel_request") == [3])
            #expect(try await letters(database) == ["2|" + Self.letter])
        }
    }
}

/// The consumer's part, with a clock that the test sets and without a server.
@Suite("The consumer of a worker that is asked to cancel jobs")
struct CancelConsumerTests {
    @Test("cancels the run, and releases a job that has not started")
    func consumer() {
        var bench = ConsumerBench.connected(concurrency: 1)
        let runs = bench.start(1...3)
        #expect(runs.map(\.job.id) == [1])
        let actions = bench.handle(.cancelRequested([RunKey(id: 1, lease: 1), RunKey(id: 2, lease: 1)]))
        #expect(actions.cancels)
        #expect(bench.consumer.held.slots[0]?.cancelReason == .requested)
        #expect(bench.consumer.held.finishedCount == 1 || actions.settle?.runs.map(\.id) == [2])
        // The request is named again until the run is settled.
        #expect(!bench.handle(.cancelRequested([RunKey(id: 1, lease: 1)])).cancels)
        // Requests of earlier claims mean other runs.
        #expect(!bench.handle(.cancelRequested([RunKey(id: 3, lease: 0)])).cancels)
        #expect(bench.end(runs, .released).starts.map(\.job.id) == [3])
    }

    @Test("reports a run that ignores this long before its deadline")
    func unresponsive() {
        var bench = ConsumerBench.connected()
        _ = bench.start(1...1)
        bench.handle(.cancelRequested([RunKey(id: 1, lease: 1)]))
        bench.now += HeldJobs.cancelledReportDelay
        bench.handle(.tick)
        #expect(bench.consumer.held.unresponsiveCount == 1)
    }
}
