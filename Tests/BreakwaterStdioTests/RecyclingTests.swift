import Breakwater
import BreakwaterStdio
import BreakwaterTesting
import Foundation
import Testing

@Suite("The processes of a pool") struct RecyclingTests {
    /// The process ids that a number of jobs ran in, in order.
    private func processes(of count: Int, in plugin: StdioPlugin) async throws -> [String] {
        var processes: [String] = []
        for _ in 0..<count {
            guard case .succeeded(let result?) = try await run(plugin) else { continue }
            processes.append(result)
        }
        return processes
    }

    @Test("a process is replaced after a number of jobs, and no job fails")
    func jobs() async throws {
        try await withPython("return os.getpid()", settings: testSettings { $0.recycle.jobs = 5 }) { plugin in
            var seen: Set<String> = []
            try await waitUntil("three processes have run jobs") {
                // The old process goes on until the new one is ready.
                let more = try await processes(of: 10, in: plugin)
                #expect(more.count == 10)
                seen.formUnion(more)
                return seen.count >= 3
            }
        }
    }

    @Test("a process is replaced after a time")
    func age() async throws {
        try await withPython("return os.getpid()", settings: testSettings { $0.recycle.age = .seconds(1) }) { plugin in
            let first = try await processes(of: 1, in: plugin)
            try await waitUntil("another has taken over") { try await processes(of: 1, in: plugin) != first }
        }
    }

    @Test("a process is replaced when it uses too much memory")
    func memory() async throws {
        let handler = """
            global kept
            kept = bytearray(200 << 20) if job.payload == 1 else None
            return os.getpid()
            """
        try await withPython(handler, settings: testSettings { $0.recycle.memoryBytes = 100 << 20 }) { plugin in
            let outcome = try await run(plugin, Job(kind: "test", payload: "1"))
            try await waitUntil("another has taken over") {
                let next = try await run(plugin, Job(kind: "test", payload: "1"))
                try await Task.sleep(for: .milliseconds(300))
                return next != outcome
            }
        }
    }

    @Test("a process that asks for it gets no more jobs, and ends")
    func asks() async throws {
        let program = """
            succeed(hear()["run"])
            say('{"type":"drain"}')
            while hear()["type"] != "drain": os._exit(9)
            """
        try await withRawProcess(program) { plugin in
            for _ in 0..<3 { try await expect(plugin, endsAs: .succeeded()) }
        }
    }

    @Test("processes run several jobs at once if they can")
    func several() async throws {
        let script = """
            import asyncio
            from breakwater_stdio import serve_async
            running = 0
            async def handle(job):
                global running
                running += 1
                while running < 6: await asyncio.sleep(0.01)
                return running
            serve_async(handle)
            """
        let settings = testSettings { $0.jobs = 6 }
        try await withPlugin(["python3", "-c", script], settings: settings) { plugin in
            try await withThrowingTaskGroup(of: JobOutcome.self) { group in
                for _ in 0..<6 { group.addTask { try await run(plugin) } }
                for try await outcome in group { #expect(outcome == .succeeded(result: "6")) }
            }
        }
    }

    @Test("stopping lets the processes end by themselves, and later jobs are released")
    func stops() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/ended"
            let program = """
                while True:
                    message = hear()
                    if message["type"] == "drain":
                        open("\(file)", "w").close()
                        sys.exit(0)
                    succeed(message["run"])
                """
            let log = RecordedLog()
            try await withRawProcess(program, log: log, settings: testSettings { $0.killAfter = .seconds(60) }) {
                plugin in
                try await expect(plugin, endsAs: .succeeded())
                let processes = plugin.processes
                await plugin.stop()
                #expect(processes.allSatisfy(isGone))
                #expect(FileManager.default.fileExists(atPath: file))
                try await expect(plugin, endsAs: .released)
            }
            #expect(log.warnings == [])
        }
    }

    @Test("a plugin that was stopped can be started again, for another worker")
    func startsAgain() async throws {
        try await withPython("return job.id") { plugin in
            for _ in 0..<5 {
                try await expect(plugin, endsAs: .succeeded(result: "1"))
                await plugin.stop()
                try await expect(plugin, endsAs: .released)
                await plugin.start(logger: RecordedLog().logger())
            }
        }
    }

    @Test("stopping ends a process that does not end by itself")
    func stopsStubborn() async throws {
        let program = """
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                line = sys.stdin.readline()
                if '"run"' in line and '"type":"run"' in line: succeed(json.loads(line)["run"])
                elif not line: time.sleep(1)
            """
        try await withRawProcess(program) { plugin in
            try await expect(plugin, endsAs: .succeeded())
            let processes = plugin.processes
            await plugin.stop()
            #expect(processes.allSatisfy(isGone))
        }
    }

    @Test("invalid settings are refused by name")
    func refusals() throws {
        for (change, word) in [
            ({ $0.processes = 0 }, "processes"), ({ $0.jobs = 1001 }, "jobs"), ({ $0.ahead = -1 }, "ahead"),
            ({ $0.silence = .zero }, "silence"), ({ $0.maxLineBytes = 1 }, "maxLineBytes"),
            ({ $0.recycle.memoryBytes = 1 }, "recycle.memoryBytes"),
        ] as [((inout StdioSettings) -> Void, String)] {
            let error = #expect(throws: StdioPluginError.self) {
                try StdioPlugin(command: ["cat"], settings: testSettings(change))
            }
            #expect(error?.code == .invalidSetting)
            #expect(error?.message.hasPrefix(word + " is ") == true)
        }
        let error = #expect(throws: StdioPluginError.self) { try StdioPlugin(command: ["no-such-program"]) }
        #expect(error?.code == .executableNotFound)
    }
}
