import BreakwaterTesting
import Glibc
import TestPrograms
import Testing

@testable import BreakwaterProcess

@Suite("The programs of a worker that died")
struct ProcessGroupWatchdogTests {
    /// A program with a child of its own.
    private func startGroup() throws -> Child {
        try Child("/bin/sh", ["-c", "sleep 600 & wait"], output: .null, errors: .null)
    }

    @Test("are killed with their children, unless they had ended before", arguments: [0, 1, 2])
    func kills(forgotten: Int) async throws {
        let groups = try (0..<3).map { _ in try startGroup() }
        defer { for group in groups where group.isRunning { kill(-group.processIdentifier, SIGKILL) } }
        try await waitUntil("all lead their groups") { groups.allSatisfy { kill(-$0.processIdentifier, 0) == 0 } }
        do {
            // No process carries this mark. The test process's own mark is on the programs of all other tests.
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

    @Test("are killed even if the watchdog was never notified of them, and even if they left their sessions")
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
        // This program belongs to another worker, whose mark begins with the first worker's mark.
        let other = try start("\(worker)0.1")
        defer { for process in mine + [other] { process.signal(SIGKILL) } }
        do { _ = ProcessGroupWatchdog(worker: worker) }
        try await waitUntil("its own have been killed") { mine.allSatisfy { !$0.isRunning } }
        #expect(other.isRunning)
        // A SIGKILL to `setsid --wait` would leave the program that it waits for, so another watchdog kills both.
        do { _ = ProcessGroupWatchdog(worker: "\(worker)0") }
        try await waitUntil("the other has been killed by its own") { !other.isRunning }
    }
}
