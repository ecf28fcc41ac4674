import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

/// The rules for evidence against a dependency, and the evidence that a circuit keeps. The tests call the SQL directly.
@Suite("Evidence", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct EvidenceTests {
    private func worker(
        _ database: TestDatabase,
        _ configure: (inout HandlerSettings) -> Void = { _ in }
    ) async throws -> HandWorker {
        let worker = try await HandWorker(database) { settings in
            settings.circuit.consecutiveFailures = 3
            settings.circuit.failureRate = nil
            settings.circuit.openFor = .seconds(10)
            settings.circuit.suspendsWorkers = false
            settings.circuit.ramp = .seconds(8)
            settings.retry.maxAttempts = 100
            configure(&settings)
        }
        worker.setClock(0)
        return worker
    }

    private func circuit(_ database: TestDatabase, _ column: String = "state") async throws -> String {
        try await database.text("select (\(column))::text from breakwater.circuit where kind = 'k' and key = ''")
    }

    @Test("a job that fails again while others succeed fails alone, from then on for good")
    func repeats() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await database.insert()
            // The same job fails over and over. At first, other jobs succeed.
            for second in 1...30 {
                worker.setClock(Double(second))
                try await worker.runOne(.failed())
                guard second < 5 else { continue }
                worker.setClock(Double(second) + 0.5)
                try await database.query("insert into breakwater.job (kind, priority) values ('k', 0)")
                try await worker.runOne(.succeeded)
            }
            #expect(try await circuit(database) == "closed")
            #expect(try await database.number("select sum(failed) from breakwater.tally where kind = 'k'") == 30)
            #expect(try await database.number("select sum(repeats) from breakwater.tally where kind = 'k'") == 29)
        }
    }

    @Test("a job that failed before it was rerouted counts as if it had not failed", arguments: [false, true])
    func rerouted(wasRerouted: Bool) async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await database.insert(2)
            let errors = #"{"class": "failed", "at": "2030-01-01T00:00:00Z"}"#
            try await database.query(
                "update breakwater.job set errors = $1::jsonb where id = 2",
                [.text(wasRerouted ? #"[\#(errors), {"class": "rerouted"}]"# : "[\(errors)]")]
            )
            worker.setClock(5)
            try await worker.runOne(.succeeded)
            worker.setClock(6)
            try await worker.runOne(.failed())
            let repeats = try await database.number("select sum(repeats) from breakwater.tally where kind = 'k'")
            #expect(repeats == (wasRerouted ? 0 : 1))
        }
    }

    @Test("if no job succeeds, failures of the same few jobs are enough")
    func fewJobs() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await database.insert()
            for second in 1...3 {
                #expect(try await circuit(database) == "closed")
                worker.setClock(Double(second))
                try await worker.runOne(.failed())
            }
            #expect(try await circuit(database) == "open")
        }
    }

    @Test("failures in an outage are held against no job: after it, each job has a vote again")
    func afterAnOutage() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database) { $0.circuit.ramp = .zero }
            try await database.insert(6)
            try await worker.settle(try await worker.claim(3), .failed())
            try await worker.settle(try await worker.claim(3), .failed())
            #expect(try await circuit(database, "was_down_at is not null") == "true")
            worker.setClock(100)
            try await worker.settle(try await worker.claim(3))
            #expect(try await circuit(database) == "closed")
            // All remaining jobs have failed before, and others have succeeded since.
            worker.setClock(1000)
            try await worker.settle(try await worker.claim(3), .failed())
            #expect(try await circuit(database) == "open")
        }
    }

    @Test("a round waits for jobs other than those that fail alone, which are charged")
    func undecided() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await database.insert(5)
            try await database.query(
                "update breakwater.job set fails_alone = true, errors = '[{\"class\": \"failed\"}]'"
            )
            try await database.query("update breakwater.circuit set state = 'half_open', is_checked = true")
            for _ in 0..<5 {
                let probes = try await worker.claim()
                #expect(probes.count == 3)
                try await worker.settle(probes, .failed())
                try await database.query("update breakwater.job set errors = jsonb_build_array(errors -> -1)")
            }
            #expect(try await circuit(database) == "half_open")
            #expect(try await database.number("select sum(attempt) from breakwater.job") == 15)
            try await database.insert(10)
            let probes = try await worker.claim()
            #expect(probes.allSatisfy { $0.id > 5 })
            try await worker.settle(probes)
            #expect(try await circuit(database) == "closed")
        }
    }

    @Test("a failure each 25 minutes opens the circuit in the end, however old its tallies are")
    func slowStreak() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database) { $0.circuit.consecutiveFailures = 10 }
            for call in 1...10 {
                worker.setClock(Double(call * 25 * 60))
                try await database.insert()
                #expect(try await circuit(database) == "closed", "\(call)")
                try await worker.runOne(.failed(delay: .seconds(864_000)))
                try await worker.maintain()
            }
            // The circuit is already being probed.
            #expect(try await circuit(database) == "half_open")
            let reasons = try await database.texts(
                "select reason from breakwater.circuit_transition order by id limit 1"
            )
            #expect(reasons == ["10 failures in a row"])
        }
    }

    @Test("a success in between ends such a long streak, and its tallies are forgotten")
    func brokenStreak() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database) { $0.circuit.consecutiveFailures = 10 }
            for call in 1...20 {
                worker.setClock(Double(call * 25 * 60))
                try await database.insert()
                try await worker.runOne(call == 9 ? .succeeded : .failed(delay: .seconds(864_000)))
                try await worker.maintain()
                #expect(try await circuit(database) == (call < 19 ? "closed" : "half_open"), "\(call)")
            }
            #expect(try await database.number("select count(*) from breakwater.tally where succeeded > 0") == 0)
        }
    }

    @Test(
        "a circuit that opens is probed at once; a false alarm lasts no open time, and admission ramps up briefly",
        arguments: [false, true]
    )
    func firstCheck(suspendsWorkers: Bool) async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database) { $0.circuit.suspendsWorkers = suspendsWorkers }
            try await database.insert(3)
            try await worker.settle(try await worker.claim(), .failed(delay: .seconds(600)))
            #expect(try await circuit(database) == "open")
            try await database.insert(100)
            let probes = try await worker.claim()
            #expect(probes.count == 3 && probes.allSatisfy(\.isProbe))
            try await worker.settle(probes)
            #expect(try await circuit(database) == "closed")
            #expect(try await circuit(database, "false_alarms") == "0")
            #expect(try await circuit(database, "extract(epoch from ramp)::integer") == "1")
            // The next false alarm soon after doubles the ramp.
            for (alarm, ramp) in [(1, "2"), (2, "4"), (3, "8"), (4, "16"), (5, "32"), (6, "64"), (7, "80"), (8, "80")] {
                worker.setClock(Double(alarm * 10))
                try await database.query("delete from breakwater.job")
                // More failures are needed each time, because the circuit expects bad jobs by now.
                let failures = min(3 << alarm, 24)
                try await database.insert(failures)
                let jobs = try await worker.claim(1000)
                #expect(jobs.count == failures)
                try await worker.settle(Array(jobs.dropLast()), .failed(delay: .seconds(600)))
                #expect(try await circuit(database) == "closed", "\(alarm)")
                try await worker.settle(Array(jobs.suffix(1)), .failed(delay: .seconds(600)))
                #expect(try await circuit(database) == "open", "\(alarm)")
                try await database.insert(3)
                try await worker.settle(try await worker.claim())
                #expect(try await circuit(database, "false_alarms") == "\(alarm)")
                #expect(try await circuit(database, "extract(epoch from ramp)::integer") == ramp)
            }
        }
    }

    @Test("no fallback is applied before the first probes have shown that the dependency is down")
    func fallbackAfterCheck() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database) { $0.circuit.fallback = .deadLetter }
            try await database.insert(3)
            try await worker.settle(try await worker.claim(), .failed(delay: .seconds(600)))
            try await database.insert(100)
            #expect(try await circuit(database) == "open")
            #expect(try await worker.query("select breakwater.apply_fallbacks(1000)")[0][0].int() == 0)
            try await worker.settle(try await worker.claim(), .failed(delay: .seconds(600)))
            #expect(try await circuit(database) == "open")
            #expect(try await worker.query("select breakwater.apply_fallbacks(1000)")[0][0].int() == 97)
        }
    }

    @Test("jobs that were claimed before the circuit opened do not start while it is probed")
    func stopsTheRest() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await database.insert(10)
            let jobs = try await worker.claim(10)
            try await worker.settle(Array(jobs.prefix(3)), .failed(delay: .seconds(600)))
            try await database.insert(3)
            #expect(try await worker.claim().count == 3)
            #expect(try await circuit(database) == "half_open")
            let beat = try await worker.beat(running: 10)
            #expect(beat.stopped["k"] == 3)
        }
    }

    @Test("a failed probe is charged when its round closes the circuit, and dead-lettered if it has no attempt left")
    func charges() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await database.insert(3)
            try await worker.settle(try await worker.claim(), .failed(delay: .seconds(600)))
            try await database.query("delete from breakwater.job")
            try await database.insert(2)
            try await database.insert(1, maxAttempts: 1)
            try await database.insert(2)
            let failing = try await worker.claim(2)
            let last = try await worker.claim(1)
            try await worker.settle(failing, .unavailable(delay: .seconds(600)))
            try await worker.settle(last)
            #expect(try await circuit(database) == "half_open")
            #expect(try await database.number("select coalesce(sum(attempt), 0) from breakwater.job") == 0)
            for _ in 0..<2 { try await worker.settle(try await worker.claim(1)) }
            #expect(try await circuit(database) == "closed")
            try await worker.maintain()
            let charged = try await database.number("select coalesce(sum(attempt), 0) from breakwater.job")
            let dead = try await database.number(
                "select count(*) from breakwater.dead_letter where reason = 'exhausted'"
            )
            #expect(charged + dead == 2)
            #expect(try await database.number("select coalesce(sum(handed_back), 0) from breakwater.job") == 0)
            // They are charged only once.
            try await worker.maintain()
            #expect(try await database.number("select coalesce(sum(attempt), 0) from breakwater.job") == charged)
        }
    }

    @Test("an opening keeps the failures, three examples, the workers, and the verdicts of its probes")
    func isKept() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database) { $0.circuit.consecutiveFailures = 5 }
            try await database.insert(5)
            let jobs = try await worker.claim()
            try await worker.settle(Array(jobs.prefix(4)), .failed("http.500", delay: .seconds(600)))
            try await worker.settle([jobs[4]], .unavailable("http.timeout", delay: .seconds(600)))
            try await database.insert(3)
            try await worker.settle(try await worker.claim(), .unavailable("http.503", delay: .seconds(600)))
            let kept = try await database.texts(
                "select evidence::text from breakwater.circuit_transition where evidence is not null order by id"
            )
            try #require(kept.count == 2)
            let opening = try #require(
                try JSONSerialization.jsonObject(with: Data(kept[0].utf8)) as? [String: Any]
            )
            let failures = try #require(opening["failures"] as? [[String: Any]])
            #expect(failures.map { $0["name"] as? String } == ["http.500", "http.timeout"])
            #expect(failures.map { $0["count"] as? Int } == [4, 1])
            #expect((opening["examples"] as? [Any])?.count == 3)
            #expect(((opening["workers"] as? [[String: Any]])?.first?["count"] as? Int) == 5)
            let round = try #require(try JSONSerialization.jsonObject(with: Data(kept[1].utf8)) as? [String: Any])
            let probes = try #require(round["probes"] as? [[String: Any]])
            #expect(probes.map { $0["outcome"] as? String } == Array(repeating: "unavailable", count: 3))
        }
    }

    @Test("a payload field in which failures concentrate is named, and none if they do not")
    func suspects() async throws {
        for (planted, path) in [("'x'", "$.account"), ("'a' || n % 7", nil)] {
            try await withTestDatabase { database in
                let worker = try await worker(database)
                try await database.query(
                    """
                    insert into breakwater.job (kind, payload)
                    select 'k', jsonb_build_object('account', \(planted), 'n', n, 'region', 'eu') from generate_series(1, 20) n
                    """
                )
                let bad = try await worker.claim(20)
                try await database.query(
                    """
                    insert into breakwater.job (kind, payload)
                    select 'k', jsonb_build_object('account', 'a' || n % 7, 'n', n, 'region', 'eu')
                      from generate_series(1, 50) n
                    """
                )
                try await worker.settle(bad, .failed("http.500", delay: .seconds(600)))
                let suspect = try await database.query(
                    """
                    select evidence -> 'common_value' ->> 'path', evidence -> 'common_value' ->> 'value',
                           (evidence -> 'common_value' -> 'failed')::integer
                      from breakwater.circuit_transition where to_state = 'open' order by id limit 1
                    """
                )
                #expect(try suspect[0][0].stringOrNil() == path)
                if path != nil {
                    #expect(try suspect[0][1].string() == "x")
                    #expect(try suspect[0][2].int() == 10)
                }
            }
        }
    }
}
