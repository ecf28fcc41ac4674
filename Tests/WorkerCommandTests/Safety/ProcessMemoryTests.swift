import BreakwaterTesting
import CProcess
import Foundation
import Testing

@testable import WorkerCommand

@Suite("What a process has in memory")
struct ProcessMemoryTests {
    @Test("is in no core file and open to no debugger, unless that is allowed")
    func dumps() async {
        await #expect(processExitsWith: .success) {
            ProcessMemory.refuseDumps(environment: [ProcessMemory.variable: "1"])
            guard breakwater_is_dumpable() == 1 else { exit(1) }
            ProcessMemory.refuseDumps(environment: [:])
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &limit)
            exit(breakwater_is_dumpable() == 0 && limit.rlim_cur == 0 && limit.rlim_max == 0 ? 0 : 2)
        }
    }

    @Test(
        "is guarded by `worker run` itself",
        .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
        .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
    )
    func running() async throws {
        try await withTestDatabase { database in
            try await withFile("handlers: { digest: { exec: { command: [sha256sum] } } }") { path in
                let command = "ulimit -c \"$(ulimit -Hc)\"; exec \"$0\" run --config \"$1\" --database \"$2\""
                let run = try WorkerBinary.Run(
                    ["-c", command, WorkerBinary.path.path(), path, database.url],
                    program: URL(filePath: "/bin/sh")
                )
                try await waitUntil("it works") {
                    try await database.number("select count(*) from breakwater.worker") == 1
                }
                let limits = try String(contentsOfFile: "/proc/\(run.processIdentifier)/limits", encoding: .utf8)
                let line = try #require(limits.split(separator: "\n").first { $0.hasPrefix("Max core file size") })
                #expect(line.split(separator: " ").suffix(3) == ["0", "0", "bytes"])
                run.signal(SIGTERM)
                #expect(try await run.end().status == 0)
            }
        }
    }
}
