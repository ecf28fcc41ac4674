import Breakwater
import BreakwaterStdio
import BreakwaterTesting
import Foundation
import Testing

@Suite("A cancelled run") struct CancellationTests {
    /// Starts a job and cancels it once its handler has written the file.
    private func cancel(_ plugin: StdioPlugin, _ file: String) async throws -> Result<JobOutcome, any Error> {
        // Unstructured, because the test goes on beside it and cancels it. It is awaited below.
        let job = Task { try await run(plugin) }
        try await waitUntil("the handler runs") { FileManager.default.fileExists(atPath: file) }
        job.cancel()
        return await job.result
    }

    @Test(
        "a Python handler is interrupted, and the process goes on",
        arguments: ["time.sleep(300)", "while True: pass", "subprocess.run(['sleep', '300'])"]
    )
    func interrupted(wait: String) async throws {
        try await withTemporaryDirectory { directory in
            let (file, cleaned) = (directory + "/runs", directory + "/cleaned")
            let handler = """
                if os.path.exists("\(file)"): return "another"
                try:
                    open("\(file)", "w").close()
                    \(wait)
                finally:
                    open("\(cleaned)", "w").close()
                """
            try await withPython(handler, settings: testSettings { $0.killAfter = .seconds(30) }) { plugin in
                try await waitUntil("it has started") { plugin.processes.count == 1 }
                let process = plugin.processes
                let result = try await cancel(plugin, file)
                #expect(throws: CancellationError.self) { try result.get() }
                #expect(FileManager.default.fileExists(atPath: cleaned))
                try await expect(plugin, endsAs: .succeeded(result: "\"another\""))
                #expect(plugin.processes == process)
            }
        }
    }

    @Test("a handler that goes on is ended with its process; a job that waited inside runs in another")
    func ignored() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/runs"
            let log = RecordedLog()
            let handler = """
                if job.payload == 1: return "another"
                signal.signal(signal.SIGUSR1, signal.SIG_IGN)
                open("\(file)", "w").close()
                time.sleep(300)
                """
            try await withPython(handler, log: log, settings: testSettings { $0.ahead = 1 }) { plugin in
                async let other = runLater(plugin, after: file, Job(kind: "test", payload: "1"))
                let result = try await cancel(plugin, file)
                #expect(throws: CancellationError.self) { try result.get() }
                #expect(try await other == .succeeded(result: "\"another\""))
            }
            #expect(log.warnings.contains { $0.contains("went on for 0.3 seconds with a cancelled run") })
        }
    }

    @Test("a process that knows no cancellations is ended", .timeLimit(.minutes(1)))
    func unknown() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/runs"
            let log = RecordedLog()
            let program = """
                hear()
                open("\(file)", "w").close()
                time.sleep(300)
                """
            try await withRawProcess(program, log: log) { plugin in
                let result = try await cancel(plugin, file)
                #expect(throws: CancellationError.self) { try result.get() }
            }
            #expect(log.warnings.contains { $0.contains("went on for 0.3 seconds with a cancelled run") })
        }
    }

    private func runLater(_ plugin: StdioPlugin, after file: String, _ job: Job) async throws -> JobOutcome {
        try await waitUntil("the other runs") { FileManager.default.fileExists(atPath: file) }
        return try await run(plugin, job)
    }

    @Test("a process that is being replaced is told to cancel a run, and goes on with the others")
    func replaced() async throws {
        try await withTemporaryDirectory { directory in
            let (file, gate) = (directory + "/runs", try Gate(in: directory))
            let script = """
                import asyncio, os
                from breakwater_stdio import serve_async
                async def handle(job):
                    if job.payload == 1: return "quick"
                    open(f"\(file){job.payload}", "w").close()
                    if job.payload == 2: await asyncio.Event().wait()
                    (await asyncio.get_running_loop().run_in_executor(None, open, "\(gate.path)")).close()
                    return os.getpid()
                serve_async(handle)
                """
            let settings = testSettings {
                $0.jobs = 3
                $0.recycle.jobs = 1
            }
            try await withPlugin(["python3", "-c", script], settings: settings) { plugin in
                async let other = run(plugin, Job(kind: "test", payload: "3"))
                // Unstructured, because only it is cancelled. It is awaited below.
                let job = Task { try await run(plugin, Job(kind: "test", payload: "2")) }
                try await waitUntil("both run") {
                    ["2", "3"].allSatisfy { FileManager.default.fileExists(atPath: file + $0) }
                }
                let process = try #require(plugin.processes.first)
                try await expect(plugin, Job(kind: "test", payload: "1"), endsAs: .succeeded(result: "\"quick\""))
                try await waitUntil("the next process is here") { plugin.processes.count == 2 }
                job.cancel()
                await #expect(throws: CancellationError.self) { try await job.value }
                try await gate.letPass()
                #expect(try await other == .succeeded(result: "\(process)"))
            }
        }
    }

    @Test("a job that waits for a process ends at once")
    func waiting() async throws {
        try await withTemporaryDirectory { directory in
            let (runs, gate) = (directory + "/runs", try Gate(in: directory))
            let handler = """
                open("\(runs)", "w").close()
                open("\(gate.path)").close()
                """
            try await withPython(handler) { plugin in
                async let first = run(plugin)
                try await waitUntil("the first runs") { FileManager.default.fileExists(atPath: runs) }
                // It is cancelled, and ends, while the first job has the only process. Unstructured, because only it is
                // cancelled.
                let second = Task { try await run(plugin) }
                second.cancel()
                await #expect(throws: CancellationError.self) { try await second.value }
                try await gate.letPass()
                let outcome = try await first
                #expect(outcome == .succeeded())
            }
        }
    }

    @Test("a job that is cancelled before it starts does not run")
    func before() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/runs"
            try await withPython("open('\(file)', 'w').close()") { plugin in
                // Unstructured, because it cancels itself before it starts the job.
                let job = Task {
                    withUnsafeCurrentTask { $0?.cancel() }
                    return try await run(plugin)
                }
                await #expect(throws: CancellationError.self) { try await job.value }
            }
            #expect(!FileManager.default.fileExists(atPath: file))
        }
    }
}
