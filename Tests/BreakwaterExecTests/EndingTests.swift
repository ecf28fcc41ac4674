import BreakwaterTesting
import Breakwater
import BreakwaterExec
import Foundation
import Testing

@Suite struct EndingTests {
    @Test func aProcessLeftBehindDoesNotHoldTheJob() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/pid"
            let started = ContinuousClock.now
            let outcome = try await run("sleep 300 & echo $! >\(file); echo done")
            #expect(outcome == .succeeded(result: "\"done\\n\""))
            #expect(.now - started < .seconds(20))
            let process = try #require(processNumber(in: file))
            try await eventually("the process left behind is killed") { isGone(process) }
        }
    }

    @Test func aProcessLeftBehindThatWritesForeverDoesNotHoldTheJob() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/pid"
            let outcome = try await run("yes & echo $! >\(file); exit 3", maxOutputBytes: 10)
            #expect(outcome.failure?.name == "exit.3")
            let process = try #require(processNumber(in: file))
            try await eventually("the process left behind is killed") { isGone(process) }
        }
    }

    @Test func aProgramThatClosesItsStreamsIsWaitedFor() async throws {
        #expect(try await run("exec >&- 2>&-; sleep 0.3; exit 7").failure?.name == "exit.7")
    }

    @Test func cancellationEndsTheProgramAndWhatItStarted() async throws {
        try await withTemporaryDirectory { directory in
            let (child, grandchild) = (directory + "/child", directory + "/grandchild")
            let plugin = try ExecPlugin(
                command: ["sh", "-c", "sleep 300 & echo $! >\(grandchild); echo $$ >\(child); wait"]
            )
            let job = Task { try await run(plugin, Job(kind: "test")) }
            try await eventually("the program runs") {
                processNumber(in: child) != nil && processNumber(in: grandchild) != nil
            }
            job.cancel()
            await #expect(throws: CancellationError.self) { try await job.value }
            let processes = try [child, grandchild].map { try #require(processNumber(in: $0)) }
            try await eventually("both have ended") { processes.allSatisfy(isGone) }
        }
    }

    @Test func aProgramThatIgnoresTerminationIsKilled() async throws {
        try await withTemporaryDirectory { directory in
            let (child, grandchild) = (directory + "/child", directory + "/grandchild")
            let script = """
                trap '' TERM
                sh -c 'while :; do sleep 300; done' & echo $! >\(grandchild); echo $$ >\(child)
                while :; do sleep 300; done
                """
            let plugin = try ExecPlugin(command: ["sh", "-c", script], killAfter: .milliseconds(200))
            let job = Task { try await run(plugin, Job(kind: "test")) }
            try await eventually("the program runs") {
                processNumber(in: child) != nil && processNumber(in: grandchild) != nil
            }
            let cancelled = ContinuousClock.now
            job.cancel()
            await #expect(throws: CancellationError.self) { try await job.value }
            #expect(.now - cancelled >= .milliseconds(200))
            let processes = try [child, grandchild].map { try #require(processNumber(in: $0)) }
            try await eventually("both have ended") { processes.allSatisfy(isGone) }
        }
    }

    @Test func aProgramMayCleanUpWhenItIsCancelled() async throws {
        try await withTemporaryDirectory { directory in
            let (ready, cleaned) = (directory + "/ready", directory + "/cleaned")
            let log = RecordedLog()
            let script = "trap 'echo cleaning >&2; echo 1 >\(cleaned); exit 0' TERM; sleep 300 & echo 1 >\(ready); wait"
            let plugin = try ExecPlugin(command: ["sh", "-c", script])
            let job = Task { try await run(plugin, Job(kind: "test"), log: log) }
            try await eventually("the program runs") { processNumber(in: ready) != nil }
            job.cancel()
            await #expect(throws: CancellationError.self) { try await job.value }
            #expect(processNumber(in: cleaned) == 1)
            #expect(log.messages == ["cleaning"])
        }
    }

    @Test(arguments: ["yes", "yes >&2", "cat /dev/zero", "yes & yes >&2"])
    func anEndlessWriterIsEndedByCancellation(script: String) async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/pid"
            let plugin = try ExecPlugin(command: ["sh", "-c", "echo $$ >\(file); \(script)"], maxOutputBytes: 100)
            let job = Task { try await run(plugin, Job(kind: "test")) }
            try await eventually("the program runs") { processNumber(in: file) != nil }
            // It keeps its reader busy without a pause, and still others get their turn.
            #expect(try await run("echo 1") == .succeeded(result: "1"))
            job.cancel()
            await #expect(throws: CancellationError.self) { try await job.value }
            let process = try #require(processNumber(in: file))
            try await eventually("it has ended") { isGone(process) }
        }
    }

    @Test func aCancelledJobStartsNothing() async throws {
        try await withTemporaryDirectory { directory in
            let plugin = try ExecPlugin(command: ["touch", directory + "/started"])
            let job = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                return try await run(plugin, Job(kind: "test"))
            }
            await #expect(throws: CancellationError.self) { try await job.value }
            #expect(!FileManager.default.fileExists(atPath: directory + "/started"))
        }
    }

    @Test func manyRunAtOnce() async throws {
        let plugin = try ExecPlugin(command: ["cat"])
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for number in 0..<200 {
                group.addTask {
                    let outcome = try await run(plugin, Job(kind: "test", payload: "\(number)"))
                    return outcome == .succeeded(result: "\(number)")
                }
            }
            for try await isRight in group { #expect(isRight) }
        }
    }
}
