import BreakwaterTesting
import Testing

@testable import Breakwater

/// Half-open circuits of kinds without waiting jobs. The tests call the SQL directly.
@Suite("Circuits without jobs", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct IdleCircuitTests {
    /// The jobs that may still wait for a circuit.
    enum Waiting: String, CaseIterable, Sendable {
        case ready, held, retry, handedBack
    }

    private func worker(
        _ database: TestDatabase,
        fallback: CircuitPolicy.Fallback = .hold
    ) async throws -> HandWorker {
        let worker = try await HandWorker(database) { settings in
            settings.circuit.consecutiveFailures = 3
            settings.circuit.failureRate = nil
            settings.circuit.openFor = .seconds(10)
            settings.circuit.halfOpenFor = .seconds(5)
            settings.circuit.suspendsWorkers = false
            settings.circuit.fallback = fallback
            settings.retry.maxAttempts = 1
        }
        worker.setClock(0)
        return worker
    }

    /// Lets three jobs fail for good, perhaps after another has succeeded. The circuit is half-open from the 20th
    /// second on.
    private func halfOpen(_ worker: HandWorker, _ database: TestDatabase, afterSuccess: Bool) async throws {
        try await database.insert(4)
        if afterSuccess {
            try await worker.runOne(.succeeded)
        } else {
            try await database.query("delete from breakwater.job where id = 4")
        }
        worker.setClock(1)
        for _ in 1...3 { try await worker.runOne(.failed()) }
        worker.setClock(20)
        try await worker.maintain()
        #expect(try await circuit(database) == "half_open: its open time is over")
    }

    private func circuit(_ database: TestDatabase) async throws -> String {
        try await database.text("select state || ': ' || reason from breakwater.circuit where kind = 'k' and key = ''")
    }

    @Test("closes after its open time if other jobs had succeeded just before, and its incident ends")
    func closes() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await halfOpen(worker, database, afterSuccess: true)
            worker.setClock(29)
            try await worker.maintain()
            #expect(try await circuit(database) == "half_open: its open time is over")
            worker.setClock(31)
            try await worker.maintain()
            #expect(try await circuit(database) == "closed: no job waits")
            #expect(
                try await database.number(
                    "select count(*) from breakwater.circuit_incident where ended_at = 'infinity'"
                ) == 0
            )
        }
    }

    @Test("waits for an hour if no job had succeeded")
    func nobodySucceeded() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await halfOpen(worker, database, afterSuccess: false)
            worker.setClock(3500)
            try await worker.maintain()
            #expect(try await circuit(database) == "half_open: its open time is over")
            worker.setClock(3700)
            try await worker.maintain()
            #expect(try await circuit(database) == "closed: no job waits")
        }
    }

    @Test("waits for an hour if a fallback takes the jobs away")
    func fallback() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database, fallback: .deadLetter)
            try await halfOpen(worker, database, afterSuccess: true)
            worker.setClock(3500)
            try await worker.maintain()
            #expect(try await circuit(database) == "half_open: its open time is over")
        }
    }

    @Test("stays as it is while a job waits for it", arguments: Waiting.allCases)
    func notIdle(waiting: Waiting) async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await halfOpen(worker, database, afterSuccess: true)
            try await database.query("update breakwater.handler set half_open_for = null")
            try await database.insert(maxAttempts: 3)
            switch waiting {
            case .ready: break
            case .held: #expect(try await worker.claim().count == 1)
            case .retry: try await worker.runOne(.failed(delay: .seconds(7200)))
            case .handedBack: try await worker.runOne(.unavailable(delay: .seconds(7200)))
            }
            worker.setClock(31)
            try await worker.maintain()
            #expect(try await circuit(database) == "half_open: its open time is over")
        }
    }
}
