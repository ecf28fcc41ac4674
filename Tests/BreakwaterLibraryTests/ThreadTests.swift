import Breakwater
import BreakwaterLibrary
import BreakwaterTesting
import Testing

@Suite("The threads of a library") struct ThreadTests {
    @Test("run as many calls at once as there are threads, and the others after them")
    func parallel() async throws {
        try await withProbe(threads: 3) { plugin, probe in
            #expect(plugin.capacity == 3)
            try await withThrowingTaskGroup(of: JobOutcome.self) { group in
                for _ in 0..<10 { group.addTask { try await run("count", in: plugin) } }
                try await waitUntil("all threads are busy") { try probe.count("probe_running") == 3 }
                try probe.release()
                for try await outcome in group { #expect(outcome == .succeeded()) }
            }
            #expect(try probe.count("probe_most_running") == 3)
            #expect(plugin.threadCount == 3)
        }
    }

    @Test("are started when they are needed")
    func lazily() async throws {
        try await withProbe(threads: 200) { plugin, _ in
            for _ in 0..<20 { try await expect("succeed", in: plugin, endsAs: .succeeded()) }
            #expect(plugin.threadCount == 1)
        }
    }

    @Test("have the stack that is documented, and block signals except faults")
    func stack() async throws {
        try await withProbe { plugin, _ in
            try await expect("stack", in: plugin, endsAs: .succeeded())
            try await expect("signals", in: plugin, endsAs: .succeeded(result: "true"))
        }
    }

    @Test("open the library before its first call, close it after the last one, and end; a start opens it again")
    func openAndClose() async throws {
        try await withProbe { plugin, probe in
            try await expect("succeed", in: plugin, endsAs: .succeeded())
            try await expect("succeed", in: plugin, endsAs: .succeeded())
            #expect(try probe.opensAndCloses == [1, 0])
            await plugin.stop()
            #expect(try probe.opensAndCloses == [1, 1])
            #expect(plugin.threadCount == 0)
            try await expect("succeed", in: plugin, endsAs: .released)
            await plugin.stop()
            await plugin.start(logger: probe.log.logger())
            try await expect("succeed", in: plugin, endsAs: .succeeded())
            await plugin.stop()
            #expect(try probe.opensAndCloses == [2, 2])
            #expect(probe.log.warnings == [])
        }
    }

    @Test("wait at a stop for calls that end when they are cancelled")
    func stop() async throws {
        try await withProbe { plugin, probe in
            try await withThrowingTaskGroup(of: JobOutcome.self) { group in
                for _ in 0..<4 { group.addTask { try await run("wait", in: plugin) } }
                try await waitUntil("all threads are busy") { try probe.count("probe_running") == 4 }
                group.addTask { try await run("succeed", in: plugin) }
                await plugin.stop()
                for try await outcome in group { #expect(outcome == .released) }
            }
            #expect(try probe.opensAndCloses == [1, 1])
        }
    }

    @Test(
        "make jobs unable with the library's reason if it refuses to be opened, and the next job tries again",
        arguments: [
            ("true", "the model is missing"), ("\"silently\"", "it returned -7"),
            ("\"at length\"", String(repeating: "x", count: 1024)),
        ]
    )
    func refusal(how: String, reason: String) async throws {
        try await withProbe(settings: "{\"refuse\":\(how)}") { plugin, probe in
            try await waitUntil("it has refused") { try probe.count("probe_opens") == 1 }
            let outcome = try await run("succeed", in: plugin)
            let message = "the library \(probe.path) cannot be opened: \(reason)"
            #expect(outcome == .unable(JobFailure("library.open", message)))
            await plugin.stop()
            #expect(try probe.count("probe_opens") >= 1)
            #expect(try probe.count("probe_closes") == 0)
        }
    }

    @Test("of two plugins share the library, and each opens it")
    func shared() async throws {
        try await withProbe(settings: #"{"a": "1"}"#) { plugin, probe in
            let other = try LibraryPlugin(path: probe.path)
            try await expect("succeed", in: other, endsAs: .succeeded())
            try await expect("succeed", in: plugin, endsAs: .succeeded())
            #expect(try probe.count("probe_opens") == 2)
            await other.stop()
            #expect(try probe.count("probe_closes") == 1)
            try await expect("succeed", in: plugin, endsAs: .succeeded())
        }
    }
}
