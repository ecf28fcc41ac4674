import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

/// A circuit driven through its SQL, with a clock that the test moves.
struct CircuitBench: Sendable {
    let database: TestDatabase
    let worker: HandWorker

    init(
        _ database: TestDatabase,
        kinds: [String] = ["k"],
        _ circuit: (inout CircuitPolicy) -> Void = { _ in }
    ) async throws {
        self.database = database
        worker = try await HandWorker(database, kinds) { settings in
            settings.circuit.minimumCalls = 4
            settings.circuit.failureRate = 0.5
            settings.circuit.consecutiveFailures = nil
            settings.circuit.openFor = .seconds(10)
            settings.circuit.openCap = .seconds(100)
            settings.circuit.probes = 2
            settings.circuit.successesToClose = 2
            settings.circuit.ramp = .zero
            settings.circuit.suspendsWorkers = false
            settings.retry.maxAttempts = 1000
            circuit(&settings.circuit)
        }
        worker.setClock(0)
    }

    var state: String {
        get async throws { try await database.text("select state from breakwater.circuit where kind = 'k'") }
    }

    var generation: Int {
        get async throws { try await database.number("select generation from breakwater.circuit where kind = 'k'") }
    }

    /// How long the circuit stays open from now on, in seconds.
    var openTime: Double {
        get async throws {
            let answer = try await worker.query(
                "select extract(epoch from retry_at - breakwater.clock())::float8 from breakwater.circuit where kind = 'k'"
            )
            return try answer[0][0].double()
        }
    }

    /// Enqueues one job for each ending, and runs them.
    func run(_ endings: FinishedRun.Ending...) async throws {
        try await database.insert(endings.count)
        for ending in endings { try await worker.runOne(ending) }
    }

    func trip() async throws {
        let failed = FinishedRun.Ending.failed(delay: .seconds(3600))
        try await run(failed, failed, failed, failed)
        #expect(try await state == "open")
        try await worker.failFirstChecks()
    }

    /// Takes the circuit from closed to half-open, with the clock at `seconds`.
    func halfOpen(at seconds: Double = 11) async throws {
        try await trip()
        worker.setClock(seconds)
        try await worker.maintain()
        #expect(try await state == "half_open")
    }

    var history: [String] {
        get async throws {
            try await database.texts(
                "select format('%s %s→%s', generation, from_state, to_state) from breakwater.circuit_transition order by id"
            )
        }
    }
}
