import BreakwaterTesting
import Libpq
import Synchronization
import Testing

@testable import Breakwater

@Suite("Probing a circuit by hand", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ProbeNowTests {
    /// A dependency that jobs call.
    private final class Dependency: Sendable {
        let isBack = Atomic(false)
    }

    /// Selects the columns from which the next open time is derived.
    private let growth = """
        select concat_ws(' ', reopened, opened_at, was_open_for, is_checked, coalesce(false_alarms, -1))
          from breakwater.circuit where kind = 'k'
        """

    @Test("makes an open circuit half-open at once, and keeps how long it has been open and how often it re-opened")
    func keepsGrowth() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database) { circuit in
                circuit.openFactor = 2
                circuit.openCap = .seconds(10_000)
            }
            try await bench.trip()
            var clock = 11.0
            for round in 1...3 {
                // The first round begins when its open time is over. The other two rounds begin earlier, by hand.
                if round > 1 {
                    let before = try await database.text(growth)
                    let generation = try await bench.generation
                    try await bench.worker.query("select breakwater.probe_circuit('k', 'it is back', 'ann')")
                    #expect(try await bench.state == "half_open")
                    #expect(try await bench.generation == generation + 1)
                    #expect(try await database.text(growth) == before, "round \(round)")
                    #expect(try await database.count("circuit where retry_at is not null") == 0)
                } else {
                    bench.worker.setClock(clock)
                }
                try await database.insert(2)
                let probes = try await bench.worker.claim()
                #expect(probes.count == 2 && probes.allSatisfy(\.isProbe))
                try await bench.worker.settle(probes, .failed(delay: .seconds(3600)))
                #expect(try await bench.state == "open")
                #expect(try await database.number("select reopened from breakwater.circuit") == round)
                // The base is 10 s. It doubles with each round, and half of the result is random.
                let longest = 10.0 * Double(1 << round)
                let open = try await bench.openTime
                #expect((longest / 2...longest).contains(open), "round \(round): \(open)")
                clock += 1
                bench.worker.setClock(clock)
            }
            // Probes that succeed close the circuit as usual, and the whole outage is remembered.
            try await bench.worker.query("select breakwater.probe_circuit('k', 'now it is', 'ann')")
            try await database.insert(2)
            try await bench.worker.settle(try await bench.worker.claim(2))
            #expect(try await bench.state == "closed")
            let length = "select extract(epoch from was_open_for)::integer from breakwater.circuit"
            #expect(try await database.number(length) == 14)
        }
    }

    @Test("before the first probes of an opening, does not end the opening's check")
    func keepsCheck() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database) { $0.consecutiveFailures = 2 }
            let failed = FinishedRun.Ending.failed(delay: .seconds(3600))
            try await bench.run(failed, failed)
            #expect(try await database.text("select is_checked::text from breakwater.circuit") == "false")
            try await bench.worker.query("select breakwater.probe_circuit('k', 'look')")
            #expect(try await database.text("select is_checked::text from breakwater.circuit") == "false")
            try await database.insert(2)
            try await bench.worker.settle(try await bench.worker.claim(2))
            #expect(try await database.number("select false_alarms from breakwater.circuit") == 0)
        }
    }

    @Test("records who probed and why, in the history and in the audit log")
    func isWrittenDown() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            try await bench.trip()
            try await bench.worker.query("select breakwater.probe_circuit('k', 'it is back', 'ann')")
            #expect(
                try await database.text(
                    """
                    select concat_ws('|', from_state, to_state, reason, actor)
                      from breakwater.circuit_transition order by id desc limit 1
                    """
                ) == "open|half_open|it is back|ann"
            )
            #expect(
                try await database.text(
                    "select concat_ws('|', actor, action, target, reason, details ->> 'kind') from breakwater.audit"
                ) == "ann|circuit.probe|k|it is back|k"
            )
        }
    }

    @Test("is refused if there is nothing to probe, and the error says what to do")
    func refusals() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            func refusal(_ arguments: String) async -> PostgresError? {
                await postgresError { try await bench.worker.query("select breakwater.probe_circuit(\(arguments))") }
            }
            func check(_ message: String, of arguments: String = "'k', 'r'", state: String = "22023") async throws {
                let before = try await database.text("select c::text from breakwater.circuit c where kind = 'k'")
                let error = await refusal(arguments)
                #expect(error?.sqlState == state, "\(arguments): \(error as Any)")
                #expect(error?.message.contains(message) == true, "\(error as Any)")
                #expect(error?.hint?.isEmpty == false)
                #expect(try await database.text("select c::text from breakwater.circuit c where kind = 'k'") == before)
            }
            try await check("the circuit of 'k' is closed")
            try await bench.halfOpen()
            try await check("the circuit of 'k' is half-open")
            for (call, words) in [
                ("open", "held open by ann"), ("close", "held closed by ann"), ("disable", "switched off by ann"),
                ("observe", "only observed by ann"),
            ] {
                try await bench.worker.query("select breakwater.\(call)_circuit('k', 'r', actor => 'ann')")
                try await check(words)
                #expect(await refusal("'k', 'r'")?.hint?.hasPrefix("Reset it") == true)
            }
            try await check("a reason is needed", of: "'k', ''")
            try await check("a reason is needed", of: "'k', null")
            try await check("there is no circuit of 'nobody'", of: "'nobody', 'r'", state: "P0002")
            try await check("there is no circuit of 'k [x]'", of: "'k', 'r', key => 'x'", state: "P0002")
            #expect(try await database.count("audit where action = 'circuit.probe'") == 0)
        }
    }

    @Test("of a key lets that key's jobs through, and no others")
    func ofKey() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { settings in
                settings.circuit.key = .path(["host"])
                settings.circuit.consecutiveFailures = 2
                settings.circuit.suspendsWorkers = false
            }
            worker.setClock(0)
            func insert(_ host: String) async throws {
                try await database.query(
                    """
                    insert into breakwater.job (kind, payload)
                    select 'k', jsonb_build_object('host', $1::text) from generate_series(1, 2)
                    """,
                    [.text(host)]
                )
            }
            for host in ["a", "b"] {
                try await insert(host)
                try await worker.settle(try await worker.claim(2), .failed(delay: .seconds(3600)))
            }
            try await worker.failFirstChecks()
            for host in ["a", "b"] { try await insert(host) }
            // No job runs, because the waiting jobs are parked.
            #expect(try await worker.claim().isEmpty)
            try await worker.query("select breakwater.probe_circuit('k', 'r', key => 'a')")
            let probes = try await worker.claim()
            #expect(!probes.isEmpty && probes.allSatisfy { $0.isProbe && $0.circuitKey == "a" })
        }
    }

    @Test("is noticed by a running worker, long before the open time is over")
    func isNoticed() async throws {
        let dependency = Dependency()
        var settings = HandlerSettings()
        settings.circuit.consecutiveFailures = 1
        settings.circuit.openFor = .seconds(3600)
        settings.circuit.openCap = .seconds(3600)
        settings.circuit.probes = 1
        settings.circuit.successesToClose = 1
        settings.circuit.suspendsWorkers = false
        settings.retry.base = .milliseconds(1)
        let handler = ClosureHandler { _, _ in
            dependency.isBack.load(ordering: .relaxed) ? .succeeded() : .unavailable(JobFailure("down", "down"))
        }
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind) select 'k' from generate_series(1, 5)")
            let registration = HandlerRegistration(kind: "k", plugin: handler, settings: settings)
            try await database.withWorker([registration]) {
                try await waitUntil("its first probes have failed") {
                    try await database.count("circuit where state = 'open' and is_checked") == 1
                }
                dependency.isBack.store(true, ordering: .relaxed)
                try await database.query("select breakwater.probe_circuit('k', 'it is back')")
                try await waitUntil("all jobs have run") { try await database.count("job") == 0 }
            }
            #expect(try await database.text("select state from breakwater.circuit") == "closed")
        }
    }
}
