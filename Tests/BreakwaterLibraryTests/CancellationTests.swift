import Breakwater
import BreakwaterLibrary
import BreakwaterTesting
import Testing

@Suite("A cancelled call of a library") struct CancellationTests {
    /// Starts a job and cancels it once the library runs it.
    private func cancel(_ word: String, in plugin: LibraryPlugin, _ probe: Probe) async throws -> JobOutcome {
        // Unstructured, because the test cancels it alone. It is awaited below.
        let job = Task { try await run(word, in: plugin) }
        try await waitUntil("the library runs it") { try probe.count("probe_running") == 1 }
        job.cancel()
        return try await job.value
    }

    @Test("is told so, whether it polls or waits, and counts if it succeeds", arguments: ["poll", "wait", "finish"])
    func told(word: String) async throws {
        try await withProbe { plugin, probe in
            if word == "finish" {
                let outcome = try await cancel(word, in: plugin, probe)
                #expect(outcome == .succeeded(result: "\"all the same\""))
            } else {
                await #expect(throws: CancellationError.self) { try await cancel(word, in: plugin, probe) }
            }
            // The thread is free again, and its next call is not cancelled.
            try await expect("nap", in: plugin, endsAs: .succeeded(result: "false"))
        }
    }

    @Test("does not begin if it waits for a thread")
    func waiting() async throws {
        try await withProbe(threads: 1) { plugin, probe in
            async let first = run("count", in: plugin)
            try await waitUntil("the thread is busy") { try probe.count("probe_running") == 1 }
            // Unstructured, because the test cancels it alone. It is awaited below.
            let second = Task { try await run("succeed", in: plugin) }
            second.cancel()
            await #expect(throws: CancellationError.self) { try await second.value }
            try probe.release()
            #expect(try await first == .succeeded())
        }
    }

    @Test("that goes on keeps its thread; a stop leaves the library open, and says so")
    func ignored() async throws {
        try await withTemporaryProbe { plugin, probe in
            async let stuck = run("ignore", in: plugin)
            try await waitUntil("the library runs it") { try probe.count("probe_running") == 1 }
            await plugin.stop()
            #expect(probe.log.warnings.contains { $0.contains("\(probe.path) is not closed, because 1 of its calls") })
            #expect(try probe.count("probe_closes") == 0)
            try await expect("succeed", in: plugin, endsAs: .released)
            try probe.release()
            #expect(try await stuck == .succeeded(result: "\"late\""))
            try await waitUntil("its thread has ended") { plugin.threadCount == 0 }
            #expect(try probe.count("probe_closes") == 0)
        }
    }

    /// As ``withProbe(settings:threads:maxResultBytes:_:)``, for a test that stops the plugin itself.
    private func withTemporaryProbe(_ body: (LibraryPlugin, Probe) async throws -> Void) async throws {
        try await withProbe { plugin, probe in
            do {
                try await body(plugin, probe)
            } catch {
                try? probe.release()
                throw error
            }
        }
    }
}
