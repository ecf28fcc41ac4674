import Foundation
import Libpq
import Testing

/// The descriptors, threads and memory of the process.
private struct Holdings: CustomStringConvertible {
    let descriptors: Int
    let threads: Int
    let residentKilobytes: Int

    static func now() throws -> Holdings {
        let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
        func number(_ key: String) throws -> Int {
            let line = try #require(status.split(separator: "\n").first { $0.hasPrefix(key + ":") })
            return try #require(Int(line.split(whereSeparator: { !$0.isNumber })[0]))
        }
        return Holdings(
            descriptors: try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count,
            threads: try number("Threads"),
            residentKilobytes: try number("VmRSS")
        )
    }

    var description: String { "\(descriptors) descriptors, \(threads) threads, \(residentKilobytes) kB" }
}

/// Other suites run at the same time, so the bounds leave room for their descriptors and threads. A leak of one
/// descriptor or thread a cycle exceeds the bounds. A run of this suite alone, with many cycles, checks the memory too.
@Suite("Leaks", .enabled(if: TestServer.isThere, TestServer.reason))
struct LeakTests {
    private static let cycles = Int(ProcessInfo.processInfo.environment["BREAKWATER_LEAK_CYCLES"] ?? "") ?? 2_000

    private func check(_ cycle: @escaping @Sendable (Int) async throws -> Void) async throws {
        for warmup in 0..<200 { try await cycle(warmup) }
        let before = try Holdings.now()
        let start = ContinuousClock.now
        for number in 0..<Self.cycles { try await cycle(number) }
        let elapsed = ContinuousClock.now - start
        // Fewer than 2,000 cycles prove nothing. They serve runs under a sanitizer, which only have to make the calls.
        let room = max(1000, Self.cycles / 2)
        try await eventually(within: .seconds(60)) {
            let now = try Holdings.now()
            return now.descriptors < before.descriptors + room && now.threads < before.threads + room
        }
        let after = try Holdings.now()
        print("\(Self.cycles) cycles in \(elapsed): before \(before); after \(after)")
        if Self.cycles >= 10_000 { #expect(after.residentKilobytes < before.residentKilobytes + 20_000) }
    }

    @Test func `connect, query and close hold nothing afterwards`() async throws {
        try await check { number in
            let connection = try await Connection.connect(TestServer.direct, logger: TestServer.silent)
            #expect(try await connection.query("select $1", [.int8(Int64(number))])[0][0].int() == number)
            await connection.close()
        }
    }

    @Test func `dropped and failed connections hold nothing afterwards`() async throws {
        try await check { _ in
            var connection: Connection? = try await Connection.connect(TestServer.direct, logger: TestServer.silent)
            _ = try await connection?.query("select 1")
            connection = nil
            let refused = ConnectionOptions("postgresql://postgres@127.0.0.1:1/postgres")
            #expect(
                try await failure { _ = try await Connection.connect(refused, logger: TestServer.silent) }.code
                    == .connectionFailed
            )
        }
    }
}
