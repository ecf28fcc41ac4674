import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

/// Runs random sequences through the real SQL functions, and compares each step with the rules in Swift.
///
/// `BREAKWATER_MODEL_STEPS` sets the total number of steps. `BREAKWATER_SEED` decides which steps they are.
@Suite("Circuits against a model", .enabled(if: TestDatabase.isAvailable, Comment(rawValue: needsServer)))
struct CircuitModelTests {
    static let worlds = 2
    static let steps =
        ProcessInfo.processInfo.environment["BREAKWATER_MODEL_STEPS"].flatMap { Int($0) } ?? 10_000

    @Test("the SQL does what the rules say, step by step", arguments: 0..<worlds)
    func agrees(number: Int) async throws {
        try await withTestDatabase { database in
            let seed = testSeed &+ UInt64(number)
            let world = try await ModelWorld(database, seed: seed)
            let start = ContinuousClock.now
            do {
                var rounds = 0
                while world.tally.steps < Self.steps / Self.worlds {
                    try await world.round()
                    rounds += 1
                    if rounds.isMultiple(of: 100) { try await world.compareJobs() }
                    if rounds.isMultiple(of: 1000) { try await database.query("vacuum breakwater.job") }
                }
                try await world.compareJobs()
            } catch {
                Issue.record("world \(number), BREAKWATER_SEED=\(testSeed), step \(world.tally.steps): \(error)")
            }
            print("model \(number), BREAKWATER_SEED=\(testSeed), \(ContinuousClock.now - start):", world.tally)
        }
    }
}
