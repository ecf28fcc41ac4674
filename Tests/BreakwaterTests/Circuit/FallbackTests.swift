import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Fallbacks of an open circuit", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct FallbackTests {
    private func bench(_ database: TestDatabase, _ fallback: CircuitPolicy.Fallback) async throws -> CircuitBench {
        let bench = try await CircuitBench(database) { $0.fallback = fallback }
        try await bench.trip()
        try await database.query("delete from breakwater.job")
        try await database.insert(5)
        try await bench.worker.maintain()
        return bench
    }

    @Test("hold keeps the jobs")
    func hold() async throws {
        try await withTestDatabase { database in
            _ = try await bench(database, .hold)
            #expect(try await database.count("job") == 5)
        }
    }

    @Test("dead_letter ends them with that reason, unspent")
    func deadLetter() async throws {
        try await withTestDatabase { database in
            _ = try await bench(database, .deadLetter)
            #expect(try await database.count("job") == 0)
            #expect(
                try await database.texts("select distinct reason || attempt from breakwater.dead_letter")
                    == ["circuit_open0"]
            )
            #expect(try await database.count("dead_letter") == 5)
        }
    }

    @Test("succeed ends them with its result")
    func succeed() async throws {
        try await withTestDatabase { database in
            _ = try await bench(database, .succeed(result: #"{"cached": true}"#))
            #expect(try await database.count("job") == 0)
            #expect(try await database.count("dead_letter") == 0)
            let results = try await database.texts(
                "select distinct result::text from breakwater.result where by_fallback"
            )
            #expect(results == [#"{"cached": true}"#])
            #expect(try await database.count("result") == 5)
        }
    }

    @Test("reroute makes them jobs of another kind")
    func reroute() async throws {
        try await withTestDatabase { database in
            _ = try await bench(database, .reroute(kind: "spare"))
            #expect(try await database.number("select count(*) from breakwater.job where kind = 'spare'") == 5)
            let spare = try await HandWorker(database, ["spare"])
            #expect(try await spare.claim().count == 5)
        }
    }
}
