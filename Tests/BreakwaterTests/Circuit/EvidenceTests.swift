import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

/// What counts as evidence against a dependency, and what a circuit keeps of it, through the SQL by hand.
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
            // The same job over and over; at first, others succeed.
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

    @Test("what failed before it was rerouted counts as if it had not failed", arguments: [false, true])
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

    @Test("where nobody succeeds, the same few jobs are enough")
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

    @Test("failures of an outage are nobody's fault: after it, each job has a vote again")
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
            // All that is left has failed before, and others have succeeded since.
            worker.setClock(1000)
            try await worker.settle(try await worker.claim(3), .failed())
            #expect(try await circuit(database) == "open")
        }
    }

    @Test("a round waits for others than those that fail alone, which are charged")
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
            // It is probed already.
            #expect(try await circuit(database) == "half_open")
            let reasons = try await database.texts(
                "select reason from breakwater.circuit_transition order by id limit 1"
            )
            #expect(reasons == ["10 failures in a row"])
        }
    }

    @Test("a success in between ends a streak that long, and its tallies are forgotten")
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

    @Test("a circuit that opens is probed at once; a false alarm lasts no open time, and admission ramps up briefly")
    func firstCheck() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
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
            // The next one soon after doubles the ramp.
            for (alarm, ramp) in [(1, "2"), (2, "4"), (3, "8"), (4, "16"), (5, "32"), (6, "64"), (7, "80"), (8, "80")] {
                worker.setClock(Double(alarm * 10))
                try await database.query("delete from breakwater.job")
                // It takes more each time: there are bad jobs about.
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

    @Test("no fallback is applied before the first probes have told that the dependency is down")
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

    @Test("what was claimed before the circuit opened does not start while it is probed")
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

    @Test("a failed probe is charged when its round closes the circuit, and dies of it if it was its last attempt")
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
            // Once only.
            try await worker.maintain()
            #expect(try await database.number("select coalesce(sum(attempt), 0) from breakwater.job") == charged)
        }
    }

    @Test("probes come from the whole lane, and jobs that have failed are taken last")
    func samples() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database) { $0.circuit.probes = 5 }
            try await database.query(
                """
                insert into breakwater.job (kind, errors, attempt)
                select 'k', case when n <= 40 then '[{"class": "failed"}]'::jsonb end, (n <= 40)::integer
                  from generate_series(1, 1000) n
                """
            )
            try await database.query("update breakwater.circuit set state = 'half_open'")
            let probes = try await worker.claim().map(\.id)
            #expect(probes.count == 5)
            // The newest is among them, some from between, and none that had failed.
            #expect(probes.contains(1000))
            #expect(probes.allSatisfy { $0 > 40 })
            #expect(probes.contains { $0 < 900 })
            // The lane goes on where it was, and past those that run.
            try await database.query("update breakwater.circuit set state = 'closed'")
            let rest = try await worker.claim(2000).map(\.id)
            #expect(rest == (1...1000).filter { !probes.contains($0) })
            #expect(try await database.count("held") == 1000)
        }
    }

    @Test("a half-open claim reads as much of a long lane as of a short one", arguments: [false, true])
    func sampleCost(haveFailed: Bool) async throws {
        var pages: [Int] = []
        for count in [300, 100_000] {
            try await withTestDatabase { database in
                let worker = try await worker(database)
                try await database.query(
                    """
                    insert into breakwater.job (kind, errors)
                    select 'k', case when $2 then '[{"class": "failed"}]'::jsonb end from generate_series(1, $1)
                    """,
                    [.int4(Int32(count)), .bool(haveFailed)]
                )
                try await database.query("vacuum analyze breakwater.job")
                try await database.query("update breakwater.circuit set state = 'half_open'")
                let claim = "breakwater.claim(\(worker.id), '{default}', '{k}', '{5}', '{1}', '{30}', '{30}', 30, true)"
                // The first one reads the catalogue as well.
                try await worker.connection.script("begin; select * from \(claim); rollback; begin")
                let plan = try await worker.connection.query(
                    "explain (analyze, buffers, format json) select * from \(claim)"
                )
                try await worker.connection.script("rollback")
                let text = try plan[0][0].string()
                let hits = text.matches(of: /"Shared (?:Hit|Read) Blocks": (\d+)/).prefix(2).compactMap { Int($0.1) }
                pages.append(hits.reduce(0, +))
            }
        }
        print("half-open claims: \(pages[0]) pages of 300 jobs, \(pages[1]) of 100,000")
        #expect(pages[1] <= pages[0] * 2)
    }

    @Test("where all have failed, those with the fewest failures are probes, and none twice in a row")
    func samplesOfFailed() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database) {
                $0.circuit.probes = 2
                $0.circuit.successesToClose = 2
            }
            try await database.query(
                """
                insert into breakwater.job (kind, errors, attempt)
                select 'k', (select jsonb_agg('{"class": "failed"}'::jsonb) from generate_series(1, 1 + n % 3)), 1
                  from generate_series(1, 9) n
                """
            )
            try await database.query("update breakwater.circuit set state = 'half_open', is_checked = true")
            let first = try await worker.claim()
            #expect(Set(first.map(\.id)).isSubset(of: [3, 6, 9]) && first.count == 2)
            try await worker.settle(first, .failed())
            #expect(try await circuit(database) == "open")
            worker.setClock(100)
            let second = try await worker.claim()
            #expect(second.count == 2 && Set(second.map(\.id)).isDisjoint(with: first.map(\.id)))
        }
    }

    @Test("an opening keeps what failed, three examples, the workers, and the verdicts of its probes")
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

    @Test("a payload field in which failures concentrate is named, and none where they do not")
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
                    select evidence -> 'suspect' ->> 'path', evidence -> 'suspect' ->> 'value',
                           (evidence -> 'suspect' -> 'failed')::integer
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
