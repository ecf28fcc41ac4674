import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

/// Cases that were once bugs, or nearly so.
@Suite("Rare cases of circuits", .enabled(if: TestDatabase.isAvailable, Comment(rawValue: needsServer)))
struct CircuitCornerTests {
    private func circuit(_ database: TestDatabase, _ column: String, key: String = "") async throws -> String {
        try await database.text(
            "select \(column)::text from breakwater.circuit where kind = 'k' and key = $1",
            [.text(key)]
        )
    }

    @Test("each function that forbids sequential scans keeps the JIT compiler off, in spite of their cost")
    func noJIT() async throws {
        try await withTestDatabase { database in
            let functions = try await database.texts(
                """
                select p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                 where n.nspname = 'breakwater' and 'enable_seqscan=off' = any (p.proconfig)
                   and not 'jit=off' = any (p.proconfig)
                """
            )
            #expect(functions == [])
        }
    }

    @Test("in a window by count, failures beside successes in one batch are no streak")
    func batchInCountWindow() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { settings in
                settings.circuit.window = .calls(1000)
                settings.circuit.suspendsWorkers = false
            }
            try await database.insert(100)
            let jobs = try await worker.claim(100)
            let runs = jobs.enumerated().map { index, job in
                FinishedRun(job, index % 5 == 0 ? .failed(delay: .seconds(60)) : .succeeded)
            }
            _ = try await worker.call(Settle(worker: worker.id, runs: runs, claims: []))
            #expect(try await circuit(database, "state") == "closed")
        }
    }

    @Test("a streak may be longer than a window by count")
    func streakBeyondWindow() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { settings in
                settings.circuit.window = .calls(3)
                settings.circuit.minimumCalls = 3
                settings.circuit.failureRate = nil
                settings.circuit.consecutiveFailures = 5
                settings.circuit.suspendsWorkers = false
            }
            for count in 1...5 {
                #expect(try await circuit(database, "state") == "closed", "after \(count - 1)")
                try await database.insert()
                try await worker.settle(try await worker.claim(1), .failed(delay: .seconds(60)))
            }
            #expect(try await circuit(database, "reason") == "5 failures in a row")
        }
    }

    @Test("a success of another worker in the same second ends a streak, whichever worker came first")
    func streakOfTwo() async throws {
        for failsFirst in [true, false] {
            try await withTestDatabase { database in
                func rules(_ settings: inout HandlerSettings) {
                    settings.circuit.failureRate = nil
                    settings.circuit.consecutiveFailures = 4
                    settings.circuit.suspendsWorkers = false
                }
                let workers = [
                    try await HandWorker(database, settings: rules), try await HandWorker(database, settings: rules),
                ]
                let (failing, well) = failsFirst ? (workers[0], workers[1]) : (workers[1], workers[0])
                try await database.insert(100)
                func settle(_ worker: HandWorker, _ ending: FinishedRun.Ending, at time: Double) async throws {
                    worker.setClock(time)
                    try await worker.settle(try await worker.claim(1), ending)
                }
                for round in 0..<3 {
                    let time = Double(round) * 0.2
                    for step in 0..<3 {
                        try await settle(failing, .failed(delay: .seconds(60)), at: time + Double(step) * 0.01)
                    }
                    try await settle(well, .succeeded, at: time + 0.1)
                }
                #expect(try await circuit(database, "state") == "closed")
                for step in 0..<4 {
                    #expect(try await circuit(database, "state") == "closed")
                    try await settle(failing, .failed(delay: .seconds(60)), at: 0.7 + Double(step) * 0.2)
                }
                #expect(try await circuit(database, "reason") == "4 failures in a row")
            }
        }
    }

    @Test("open time grows with any factor to its cap, and no count of re-openings is too large for it")
    func openTimes() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { settings in
                settings.circuit.consecutiveFailures = 1
                settings.circuit.openFactor = 1.01
                settings.circuit.successesToClose = 1
                settings.circuit.suspendsWorkers = false
            }
            worker.setClock(0)
            try await database.insert(10)
            try await worker.settle(try await worker.claim(1), .failed(delay: .seconds(60)))
            for (reopened, most) in [(99, 30 * 2.7049), (400, 600), (2_147_483_646, 600), (2_147_483_647, 600)] {
                try await database.query(
                    """
                    update breakwater.circuit
                       set state = 'half_open', reopened = $1, since = '2030-01-01', generation = generation + 1,
                           is_checked = true
                     where kind = 'k' and key = ''
                    """,
                    [.int4(Int32(reopened))]
                )
                try await database.insert()
                try await worker.settle(try await worker.claim(1), .failed(delay: .seconds(60)))
                let seconds = Double(try await circuit(database, "extract(epoch from retry_at - since)")) ?? 0
                #expect((most / 2...most * 1.001).contains(seconds), "\(reopened): \(seconds)")
            }
            #expect(try await circuit(database, "reopened") == "2147483647")
        }
    }

    @Test("an absurd Retry-After is capped, however large")
    func absurdRetryAfter() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.circuit.suspendsWorkers = false }
            worker.setClock(0)
            try await database.insert()
            var ending = FinishedRun.Ending.failed(delay: .seconds(60))
            ending.effect = .tripped
            ending.retryAfter = .seconds(Int64.max)
            try await worker.settle(try await worker.claim(1), ending)
            #expect(try await circuit(database, "extract(epoch from retry_at - since)::int") == "600")
        }
    }

    @Test("a kind's own circuit is closed by probes with a key and by probes without")
    func ownCircuitOfKeyedKind() async throws {
        for host in ["fine", nil] {
            try await withTestDatabase { database in
                let worker = try await HandWorker(database) { settings in
                    settings.circuit.key = .path(["host"])
                    settings.circuit.consecutiveFailures = 3
                    settings.circuit.successesToClose = 2
                    settings.circuit.openFor = .seconds(10)
                    settings.circuit.suspendsWorkers = false
                }
                worker.setClock(0)
                func insert(_ count: Int, _ host: String?) async throws {
                    try await database.query(
                        """
                        insert into breakwater.job (kind, payload)
                        select 'k', jsonb_strip_nulls(jsonb_build_object('host', $1::text)) from generate_series(1, $2)
                        """,
                        [.text(host), .int4(Int32(count))]
                    )
                }
                // The open circuit of a key makes the claim sort out that key's jobs.
                for name in ["broken", nil] {
                    try await insert(3, name)
                    try await worker.settle(try await worker.claim(3), .failed(delay: .seconds(3600)))
                }
                #expect(try await circuit(database, "state") == "open")
                try await database.query(
                    "update breakwater.circuit set retry_at = retry_at + interval '1 day' where key = 'broken'"
                )
                worker.setClock(11)
                try await insert(10, host)
                try await worker.settle(try await worker.claim(2))
                #expect(try await circuit(database, "state") == "closed", "with \(host ?? "no key")")
            }
        }
    }

    @Test("failures of keys beyond the thousandth count for their kind's own circuit, in every generation")
    func tooManyKeys() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { settings in
                settings.circuit.key = .path(["host"])
                settings.circuit.consecutiveFailures = 3
                settings.circuit.suspendsWorkers = false
            }
            try await database.query(
                "insert into breakwater.circuit (kind, key) select 'k', 'key ' || n from generate_series(1, 1000) n"
            )
            try await database.query("select breakwater.reset_circuit('k', 'a new generation')")
            try await database.query(
                """
                insert into breakwater.job (kind, payload)
                select 'k', jsonb_build_object('host', 'another ' || n) from generate_series(1, 3) n
                """
            )
            try await worker.settle(try await worker.claim(3), .failed(delay: .seconds(60)))
            #expect(try await circuit(database, "state") == "open")
        }
    }

    @Test("an open circuit closes when its handler comes back without one")
    func switchedOff() async throws {
        try await withTestDatabase { database in
            let before = try await HandWorker(database) { $0.circuit.consecutiveFailures = 1 }
            try await database.insert(20)
            try await before.settle(try await before.claim(1), .failed(delay: .seconds(60)))
            #expect(try await circuit(database, "state") == "open")
            let after = try await HandWorker(database) { $0.circuit.isEnabled = false }
            try await database.query("select breakwater.advance_circuits()")
            #expect(try await circuit(database, "state") == "closed")
            #expect(try await circuit(database, "reason") == "its handler has no circuit any more")
            try await database.query("update breakwater.circuit set ramp_until = null")
            #expect(try await after.claim(100).count == 19)
            // A circuit that a user holds open stays open.
            try await database.query("select breakwater.open_circuit('k', 'maintenance')")
            try await database.query("select breakwater.advance_circuits()")
            #expect(try await circuit(database, "state") == "open")
        }
    }

    @Test("calls are counted for the retry budget without a circuit, too")
    func countsWithoutCircuit() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.circuit.isEnabled = false }
            try await database.insert(10)
            try await worker.settle(try await worker.claim(7))
            try await worker.settle(try await worker.claim(3), .failed(delay: .seconds(60)))
            let counted = "select sum(succeeded) || ' ' || sum(failed) from breakwater.tally where kind = 'k'"
            #expect(try await database.text(counted) == "7 3")
        }
    }

    @Test("metrics-only suspends no worker")
    func observesWithoutSuspending() async throws {
        try await withTestDatabase { database in
            func rules(_ settings: inout HandlerSettings) { settings.circuit.consecutiveFailures = 3 }
            let well = try await HandWorker(database, settings: rules)
            let broken = try await HandWorker(database, settings: rules)
            try await database.insert(100)
            try await database.query("select breakwater.observe_circuit('k', 'trying thresholds')")
            for second in 0..<3 {
                well.setClock(Double(second) + 0.5)
                broken.setClock(Double(second))
                try await broken.settle(try await broken.claim(3), .failed(delay: .seconds(60)))
                try await well.settle(try await well.claim(3))
            }
            #expect(try await database.count("suspension") == 0)
        }
    }

    @Test("a fallback that cannot work is refused when a worker registers, before a leader would apply it")
    func refusesFallbacks() async throws {
        try await withTestDatabase { database in
            for fallback in [CircuitPolicy.Fallback.succeed(result: "{"), .reroute(kind: "")] {
                let error = await postgresError {
                    _ = try await HandWorker(database) { $0.circuit.fallback = fallback }
                }
                #expect(error != nil)
            }
        }
    }

    @Test("results that move several circuits lock them in one order, shared ones included")
    func lockOrder() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["a", "b", "c"]) { settings in
                settings.circuit.consecutiveFailures = 1
                settings.circuit.suspendsWorkers = false
            }
            // Kinds a and c share a circuit, and b has its own. In the order of kinds, a batch of a and b would lock
            // the shared circuit first, and a batch of b and c would lock it last.
            try await database.query("update breakwater.handler set shared_key = 'z' where kind in ('a', 'c')")
            try await database.query("insert into breakwater.circuit (kind, key) values ('*', 'z')")
            for kind in ["b", "c"] { try await database.insert(1, kind: kind) }
            try await worker.settle(try await worker.claim(2), .failed(delay: .seconds(60)))
            let order = try await database.texts("select kind from breakwater.circuit_transition order by id")
            #expect(order == ["*", "b"])
        }
    }
}
