import BreakwaterTesting
import Glibc
import TestPrograms
import Testing

@testable import BreakwaterExec

@Suite("Of the programs of a worker that died")
struct ProcessGroupWatchdogTests {
    /// A program with a child of its own.
    private func startGroup() throws -> Child {
        try Child("/bin/sh", ["-c", "sleep 600 & wait"], output: .null, errors: .null)
    }

    @Test("those are killed, with what they started, that had not ended before", arguments: [0, 1, 2])
    func kills(forgotten: Int) async throws {
        let groups = try (0..<3).map { _ in try startGroup() }
        defer { for group in groups where group.isRunning { kill(-group.processIdentifier, SIGKILL) } }
        try await waitUntil("all lead their groups") { groups.allSatisfy { kill(-$0.processIdentifier, 0) == 0 } }
        do {
            // With a mark that nothing carries: this process's own is on the programs of all other tests.
            let watch = ProcessGroupWatchdog(worker: "test\(UInt64.random(in: .min ... .max))")
            for group in groups { watch.watch(group.processIdentifier) }
            watch.forget(groups[forgotten].processIdentifier)
        }
        let killed = groups.indices.filter { $0 != forgotten }
        try await waitUntil("the others have been killed") {
            killed.allSatisfy { !groups[$0].isRunning && kill(-groups[$0].processIdentifier, 0) != 0 }
        }
        #expect(killed.allSatisfy { groups[$0].status == 128 + SIGKILL })
        #expect(groups[forgotten].isRunning)
    }

    @Test("those are killed too that it was never told of, and that left their sessions")
    func marked() async throws {
        let worker = "test\(UInt64.random(in: .min ... .max))"
        func start(_ mark: String) throws -> Child {
            try Child(
                "/usr/bin/setsid",
                ["--wait", "sleep", "600"],
                environment: ["PATH": "/usr/bin:/bin", RunMark.variable: mark],
                output: .null,
                errors: .null
            )
        }
        let mine = try (1...3).map { try start("\(worker).\($0)") }
        // A program of another worker, whose mark begins with this one's.
        let other = try start("\(worker)0.1")
        defer { for process in mine + [other] { process.signal(SIGKILL) } }
        do { _ = ProcessGroupWatchdog(worker: worker) }
        try await waitUntil("its own have been killed") { mine.allSatisfy { !$0.isRunning } }
        #expect(other.isRunning)
        // Killing what waits for it would leave the other's program.
        do { _ = ProcessGroupWatchdog(worker: "\(worker)0") }
        try await waitUntil("the other has been killed by its own") { !other.isRunning }
    }
}
