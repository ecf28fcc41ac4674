import BreakwaterTesting
import Foundation
import Glibc
import Libpq
import Testing

/// `worker run` with a pool of processes.
@Suite(
    "The processes of a stdio handler",
    .enabled(if: TestDatabase.isAvailable && WorkerBinary.isBuilt, "BREAKWATER_TEST_DATABASE or the program is missing")
)
struct StdioWorkerTests {
    /// A handler whose results are its process id.
    private static let handler = #"""
        read -r hello
        echo '{"type":"hello","protocol":1}'
        while read -r line; do
            case $line in
            *'"type":"run"'*)
                run=${line#*'"run":'}
                echo "{\"type\":\"result\",\"run\":${run%%,*},\"outcome\":\"succeeded\",\"result\":$$}"
                ;;
            esac
        done
        """#

    @Test("run jobs, and end with their worker, also when it is killed", arguments: [SIGTERM, SIGKILL])
    func ends(signal: Int32) async throws {
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind) select 'whoami' from generate_series(1, 40)")
            let script = FileManager.default.temporaryDirectory.appending(path: "whoami-\(UUID().uuidString).sh").path
            try Self.handler.write(toFile: script, atomically: true, encoding: .utf8)
            defer { try? FileManager.default.removeItem(atPath: script) }
            let stdio = "{ command: [sh, \(script)], processes: 2 }"
            let file = "{ lease: 2s, handlers: { whoami: { stdio: \(stdio), keep_results: 1h } } }"
            var processes: [Int32] = []
            let ending = try await database.running(file) { worker in
                try await waitUntil("all jobs have ended", deadline: .seconds(120)) {
                    try await database.number("select count(*) from breakwater.result") == 40
                }
                processes = try await database.numbers("select distinct (result #>> '{}')::int8 from breakwater.result")
                    .map { Int32($0) }
                #expect((1...2).contains(processes.count))
                #expect(processes.allSatisfy { kill($0, 0) == 0 })
                // At the end, the worker gets SIGTERM anyway; a second one would end it at once.
                if signal == SIGKILL { worker.signal(signal) }
            }
            #expect(ending.status == (signal == SIGTERM ? 0 : 128 + SIGKILL))
            try await waitUntil("the processes have ended") { processes.allSatisfy { kill($0, 0) != 0 } }
            if signal == SIGTERM { #expect(!ending.errors.contains("warning")) }
        }
    }
}
