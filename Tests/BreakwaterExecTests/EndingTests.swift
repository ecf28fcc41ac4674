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
            #expect(.now - started < .seconds(120))
            let process = try #require(processNumber(in: file))
            try await waitUntil("the process left behind is killed") { isGone(process) }
        }
    }

    @Test func aProcessLeftBehindThatWritesForeverDoesNotHoldTheJob() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/pid"
            let outcome = try await run("yes & echo $! >\(file); exit 3", maxOutputBytes: 10)
            #expect(outcome.failure?.name == "exit.3")
            let process = try #require(processNumber(in: file))
            try await waitUntil("the process left behind is killed") { isGone(process) }
        }
    }

    @Test("a process left behind in the program's process group is killed, even if it has cleared its environment")
    func leftBehindWithoutItsEnvironment() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/pid"
            // Without the mark in its environment, the process can be found only by its process group.
            let outcome = try await run(
                """
                env -i /bin/sh -c 'echo $$ >\(file); exec sleep 300' &
                until test -s \(file); do sleep 0.01; done
                exit 3
                """
            )
            #expect(outcome.failure?.name == "exit.3")
            let process = try #require(processNumber(in: file))
            // The default deadline is nearly as long as the process would live.
            try await waitUntil("the process left behind is killed", deadline: .seconds(60)) { isGone(process) }
        }
    }

    /// Each script writes the id of a process that has left the program's session.
    private static let escapes = [
        "a session of its own":
            "setsid sh -c 'echo $$ >FILE; exec sleep 300' & until test -s FILE; do sleep 0.01; done",
        "a daemon":
            "(setsid sh -c '(sh -c \"echo \\$\\$ >FILE; exec sleep 300\" &) ; exit' &) ; until test -s FILE; do sleep 0.01; done",
        "a daemon without streams":
            "setsid -f sh -c 'exec <&- >&- 2>&-; cd /; echo $$ >FILE; sleep 300; true'; until test -s FILE; do sleep 0.01; done",
        "one that starts more":
            "setsid sh -c 'trap \"\" TERM HUP; echo $$ >FILE; for n in $(seq 500); do setsid sleep 60 & sleep 0.02; done; sleep 60' & until test -s FILE; do sleep 0.01; done",
    ]

    @Test("processes that left the program's session die with its job", arguments: escapes.keys.sorted())
    func leftTheSession(how: String) async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/pid"
            let script = try #require(Self.escapes[how]).replacing("FILE", with: file)
            #expect(try await run(script + "; exit 3").failure?.name == "exit.3")
            let process = try #require(processNumber(in: file))
            try await waitUntil("it has ended") { isGone(process) }
        }
    }

    @Test("processes that left the program's session die with its cancelled job")
    func leftTheSessionOfACancelledJob() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/pid"
            let plugin = try ExecPlugin(
                command: ["sh", "-c", "setsid sh -c 'echo $$ >\(file); exec sleep 300' & sleep 300"]
            )
            let job = Task { try await run(plugin, Job(kind: "test")) }
            try await waitUntil("it runs") { processNumber(in: file) != nil }
            job.cancel()
            await #expect(throws: CancellationError.self) { try await job.value }
            let process = try #require(processNumber(in: file))
            try await waitUntil("it has ended") { isGone(process) }
        }
    }

    @Test(
        "a daemon left behind dies with its job, however long the program ran and however many processes it started",
        arguments: [(0.0, 0), (0.5, 0), (0.0, 400)]
    )
    func daemonsEnd(seconds: Double, others: Int) async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/pid"
            // The other processes use up process ids. After many ids, or after a longer run, the worker checks all
            // processes.
            let script = """
                setsid -f sh -c 'echo $$ >\(file); exec sleep 300' >/dev/null 2>&1
                until test -s \(file); do sleep 0.01; done
                number=0; while test $number -lt \(others); do (:); number=$((number + 1)); done
                sleep \(seconds)
                """
            #expect(try await run(script) == .succeeded())
            let process = try #require(processNumber(in: file))
            try await waitUntil("it has ended") { isGone(process) }
        }
    }

    @Test("the end of a job leaves the processes of other jobs alone")
    func othersGoOn() async throws {
        try await withTemporaryDirectory { directory in
            let (file, gate) = (directory + "/pid", directory + "/gate")
            async let outcome = run(
                "setsid sh -c 'echo $$ >\(file); exec sleep 300' & until test -e \(gate); do sleep 0.02; done"
            )
            try await waitUntil("it runs") { processNumber(in: file) != nil }
            for _ in 0..<5 { #expect(try await run("true") == .succeeded()) }
            let process = try #require(processNumber(in: file))
            #expect(!isGone(process))
            #expect(FileManager.default.createFile(atPath: gate, contents: nil))
            _ = try await outcome
            try await waitUntil("it has ended") { isGone(process) }
        }
    }

    @Test("a program inherits no file descriptor of the worker")
    func noFiles() async throws {
        // Descriptor 3 is the directory that ls reads.
        #expect(try await run("exec ls /proc/self/fd") == .succeeded(result: "\"0\\n1\\n2\\n3\\n\""))
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
            try await waitUntil("the program runs") {
                processNumber(in: child) != nil && processNumber(in: grandchild) != nil
            }
            job.cancel()
            await #expect(throws: CancellationError.self) { try await job.value }
            let processes = try [child, grandchild].map { try #require(processNumber(in: $0)) }
            try await waitUntil("both have ended") { processes.allSatisfy(isGone) }
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
            try await waitUntil("the program runs") {
                processNumber(in: child) != nil && processNumber(in: grandchild) != nil
            }
            let cancelled = ContinuousClock.now
            job.cancel()
            await #expect(throws: CancellationError.self) { try await job.value }
            #expect(.now - cancelled >= .milliseconds(200))
            let processes = try [child, grandchild].map { try #require(processNumber(in: $0)) }
            try await waitUntil("both have ended") { processes.allSatisfy(isGone) }
        }
    }

    @Test func aProgramMayCleanUpWhenItIsCancelled() async throws {
        try await withTemporaryDirectory { directory in
            let (ready, cleaned) = (directory + "/ready", directory + "/cleaned")
            let log = RecordedLog()
            let script = "trap 'echo cleaning >&2; echo 1 >\(cleaned); exit 0' TERM; sleep 300 & echo 1 >\(ready); wait"
            let plugin = try ExecPlugin(command: ["sh", "-c", script])
            let job = Task { try await run(plugin, Job(kind: "test"), log: log) }
            try await waitUntil("the program runs") { processNumber(in: ready) != nil }
            job.cancel()
            await #expect(throws: CancellationError.self) { try await job.value }
            #expect(processNumber(in: cleaned) == 1)
            #expect(log.messages == ["cleaning"])
        }
    }

    @Test("a process that the program started may clean up too when the job is cancelled")
    func aChildMayCleanUpWhenItIsCancelled() async throws {
        try await withTemporaryDirectory { directory in
            let (ready, cleaned) = (directory + "/ready", directory + "/cleaned")
            // The program itself only waits for its child to end. The signal ends the first wait, but not the second.
            let child = "trap \"echo 1 >\(cleaned); exit 0\" TERM; echo 1 >\(ready); while :; do sleep 0.05; done"
            let plugin = try ExecPlugin(
                command: ["sh", "-c", "trap : TERM; sh -c '\(child)' & wait; wait"],
                killAfter: .seconds(30)
            )
            // Unstructured, because the test goes on beside it and cancels it. It is awaited below.
            let job = Task { try await run(plugin, Job(kind: "test")) }
            try await waitUntil("the child runs") { processNumber(in: ready) != nil }
            job.cancel()
            await #expect(throws: CancellationError.self) { try await job.value }
            #expect(processNumber(in: cleaned) == 1)
        }
    }

    @Test(arguments: ["yes", "yes >&2", "cat /dev/zero", "yes & yes >&2"])
    func anEndlessWriterIsEndedByCancellation(script: String) async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/pid"
            let plugin = try ExecPlugin(command: ["sh", "-c", "echo $$ >\(file); \(script)"], maxOutputBytes: 100)
            let job = Task { try await run(plugin, Job(kind: "test")) }
            try await waitUntil("the program runs") { processNumber(in: file) != nil }
            // The program keeps its reader busy without a pause, and other tasks still get their turn.
            #expect(try await run("echo 1") == .succeeded(result: "1"))
            job.cancel()
            await #expect(throws: CancellationError.self) { try await job.value }
            let process = try #require(processNumber(in: file))
            try await waitUntil("it has ended") { isGone(process) }
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
