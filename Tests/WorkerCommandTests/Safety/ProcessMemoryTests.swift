import BreakwaterTesting
import Foundation
import Testing

@testable import WorkerCommand

@Suite("The memory of a process")
struct ProcessMemoryTests {
    @Test(
        "is in no core file, unless that is allowed",
        .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
        .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)"),
        arguments: [false, true]
    )
    func running(isAllowed: Bool) async throws {
        try await withTestDatabase { database in
            try await withFile("handlers: { digest: { exec: { command: [sha256sum] } } }") { path in
                let command = "ulimit -c \"$(ulimit -Hc)\"; exec \"$0\" run --config \"$1\" --database \"$2\""
                let run = try WorkerBinary.Run(
                    ["-c", command, WorkerBinary.path.path(), path, database.url],
                    program: URL(filePath: "/bin/sh"),
                    environment: isAllowed ? [ProcessMemory.variable: "1"] : [:]
                )
                try await waitUntil("it works") {
                    try await database.number("select count(*) from breakwater.worker") == 1
                }
                let limits = try String(contentsOfFile: "/proc/\(run.processIdentifier)/limits", encoding: .utf8)
                let line = try #require(limits.split(separator: "\n").first { $0.hasPrefix("Max core file size") })
                var hard = rlimit()
                getrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &hard)
                let isRefused = line.split(separator: " ").suffix(3) == ["0", "0", "bytes"]
                #expect(isRefused == (!isAllowed || hard.rlim_max == 0))
                run.signal(SIGTERM)
                #expect(try await run.end().status == 0)
            }
        }
    }
}
