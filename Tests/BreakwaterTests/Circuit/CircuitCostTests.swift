import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

@Suite("The cost of circuits", .enabled(if: TestDatabase.isAvailable, Comment(rawValue: needsServer)))
struct CircuitCostTests {
    private static let jobs = 400

    /// Counts everything that a worker sends to Postgres while it runs ``jobs`` healthy jobs.
    private func counts(_ configure: @Sendable (inout CircuitPolicy) -> Void) async throws -> CountingProxy.Counts {
        try await withTestDatabase { database in
            guard var url = URLComponents(string: database.url) else { throw CancellationError() }
            let proxy = try CountingProxy(server: UInt16(url.port ?? 5432))
            defer { proxy.stop() }
            url.port = Int(proxy.port)
            let through = url.string ?? ""
            var settings = HandlerSettings()
            configure(&settings.circuit)
            let handler = ClosureHandler { _, _ in .succeeded() }
            try await database.query(
                """
                insert into breakwater.job (kind, payload)
                select 'k', jsonb_build_object('host', n % 5) from generate_series(1, \(Self.jobs)) n
                """
            )
            let registration = HandlerRegistration(kind: "k", plugin: handler, settings: settings)
            try await database.withWorker([registration]) { configuration in
                configuration.database = ConnectionOptions(through)
                configuration.concurrency = 1
                configuration.pollInterval = .seconds(60)
            } _: {
                try await waitUntil("the jobs end") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
            }
            return proxy.seen
        }
    }

    @Test(
        "healthy jobs take no more statements and no more round trips with a circuit than without",
        arguments: ["time window", "count window", "keys", "shared key"]
    )
    func healthyPath(sort: String) async throws {
        let without = try await counts { $0.isEnabled = false }
        let with = try await counts { policy in
            policy.slowCall = .seconds(10)
            switch sort {
            case "count window": policy.window = .calls(100)
            case "keys": policy.key = .path(["host"])
            case "shared key": policy.key = .shared("dependency")
            default: break
            }
        }
        #expect(!without.claims.isEmpty && !with.claims.isEmpty)
        // Circuits add no statement, neither in the claim loop nor beside it.
        let texts = { (counts: CountingProxy.Counts) in Set(counts.roundTrips.joined()) }
        #expect(texts(with).subtracting(texts(without)).filter { $0.contains("circuit") } == [])
        #expect(Set(with.claims.joined()) == Set(without.claims.joined()))
        for trip in with.claims + without.claims {
            #expect(trip.count { $0.contains("breakwater.settle(") } <= 1)
            #expect(trip.count { $0.contains("breakwater.claim(") } <= 1)
            #expect(trip.count <= 2, "\(trip)")
        }
        // The size of batches depends on timing. One more round trip for each batch would be far beyond this bound.
        let least = Double(without.claims.count)
        #expect(Double(with.claims.count) <= least * 1.3 + 10, "\(with.claims.count) round trips; \(least) without")
        print(
            "\(sort): \(with.claims.count) round trips and \(with.claims.joined().count) statements for \(Self.jobs) jobs;",
            "without a circuit \(without.claims.count) and \(without.claims.joined().count)"
        )
    }
}
