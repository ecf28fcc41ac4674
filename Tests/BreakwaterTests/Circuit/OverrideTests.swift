import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Overriding a circuit", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct OverrideTests {
    @Test("open holds everything until it is reset, however much time passes")
    func forcedOpen() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            try await database.insert(5)
            try await database.query("select breakwater.open_circuit('k', 'the vendor called', actor => 'ada')")
            let row = try await database.query(
                "select reason, override, override_actor from breakwater.circuit_status"
            )[0]
            #expect(try row[0].string() == "the vendor called")
            #expect(try row[1].string() == "open")
            #expect(try row[2].string() == "ada")
            bench.worker.setClock(1_000_000)
            try await bench.worker.maintain()
            #expect(try await bench.worker.claim().isEmpty)
            try await database.query("select breakwater.reset_circuit('k', 'they fixed it', actor => 'ada')")
            #expect(try await bench.worker.claim().count == 5)
            #expect(
                try await database.texts(
                    "select format('%s %s', actor, reason) from breakwater.circuit_transition order by id"
                )
                    == ["ada the vendor called", "ada they fixed it"]
            )
        }
    }

    @Test("closed lets jobs run however they end; after a reset it counts afresh")
    func forcedClosed() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            try await bench.trip()
            try await database.query("select breakwater.close_circuit('k', 'let them run')")
            try await bench.run(.failed(), .failed(), .failed(), .failed(), .failed(), .failed())
            #expect(try await bench.state == "closed")
            try await database.query("select breakwater.reset_circuit('k', 'enough')")
            try await bench.run(.failed(), .failed(), .failed())
            #expect(try await bench.state == "closed")
            try await bench.run(.failed())
            #expect(try await bench.state == "open")
        }
    }

    @Test("ends on request, in a clean state", arguments: ["open", "close", "disable", "observe"])
    func until(call: String) async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            _ = try await bench.worker.query(
                "select breakwater.\(call)_circuit('k', 'for a minute', until => breakwater.clock() + interval '60 s')"
            )
            bench.worker.setClock(59)
            #expect(try await bench.worker.maintain().advanced == 0)
            bench.worker.setClock(61)
            #expect(try await bench.worker.maintain().advanced == 1)
            let row = try await database.query(
                "select state, override is null and override_until is null and override_actor is null from breakwater.circuit"
            )[0]
            #expect(try row[0].string() == "closed")
            #expect(try row[1].bool())
            try await bench.trip()
        }
    }

    @Test("cancels the change that was due by itself")
    func cancelsPending() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            try await bench.trip()
            try await database.query("select breakwater.open_circuit('k', 'not yet')")
            bench.worker.setClock(100)
            #expect(try await bench.worker.maintain().advanced == 0)
            #expect(try await bench.worker.claim().isEmpty)
            #expect(try await bench.state == "open")
        }
    }

    @Test("disabled counts nothing; observed records once that it would have opened")
    func disabledAndObserved() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            try await database.query("select breakwater.disable_circuit('k', 'noise')")
            for _ in 0..<6 { try await bench.run(.failed()) }
            #expect(try await bench.state == "closed")
            try await database.query("select breakwater.observe_circuit('k', 'looking')")
            for _ in 0..<8 { try await bench.run(.failed()) }
            #expect(try await bench.state == "closed")
            let said = try await database.texts(
                "select reason from breakwater.circuit_transition where reason like 'would have opened%'"
            )
            #expect(said.count == 1)
        }
    }

    @Test("is refused without a reason, for the past, and for a circuit that is not there")
    func refusals() async throws {
        try await withTestDatabase { database in
            _ = try await CircuitBench(database)
            for (call, state, message) in [
                ("open_circuit('k', '')", "22023", "a reason is needed"),
                ("close_circuit('k', null)", "22023", "a reason is needed"),
                ("open_circuit('k', 'r', until => now() - interval '1 s')", "22023", "is in the past"),
                ("reset_circuit('nobody', 'r')", "P0002", "there is no circuit of 'nobody'"),
            ] {
                let error = await postgresError { try await database.query("select breakwater.\(call)") }
                #expect(error?.sqlState == state, "\(call)")
                #expect(error?.message.contains(message) == true, "\(error as Any)")
            }
        }
    }

    @Test("and everything else appears in the history once, in the order of generations")
    func history() async throws {
        try await withTestDatabase { database in
            let bench = try await CircuitBench(database)
            try await bench.halfOpen()
            try await bench.run(.succeeded, .succeeded)
            for call in ["open_circuit", "close_circuit", "disable_circuit", "reset_circuit"] {
                try await database.query("select breakwater.\(call)('k', 'r')")
            }
            let generations = try await database.numbers(
                "select generation from breakwater.circuit_transition where kind = 'k' order by id"
            )
            #expect(generations == (2...8).map { Int64($0) })
            #expect(try await bench.generation == 8)
        }
    }
}
