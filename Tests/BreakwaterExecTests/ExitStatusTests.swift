import BreakwaterTesting
import Breakwater
import BreakwaterExec
import Foundation
import Testing

@Suite struct ExitStatusTests {
    @Test func zeroSucceeds() async throws {
        #expect(try await run("exit 0") == .succeeded(result: nil))
    }

    @Test(arguments: [1, 2, 64, 75, 76, 78, 81, 126, 127, 255])
    func mostStatusesFail(status: Int) async throws {
        guard case .failed(let failure) = try await run("exit \(status)") else {
            Issue.record("status \(status) is not a failure")
            return
        }
        #expect(failure.name == "exit.\(status)")
        #expect(failure.message == "sh exited with status \(status) and wrote nothing to standard error")
    }

    @Test func status69IsUnavailable() async throws {
        guard case .unavailable(let failure, nil) = try await run("exit 69") else {
            Issue.record("not unavailable")
            return
        }
        #expect(failure.name == "exit.69")
    }

    @Test(
        "a program can say when its job runs again",
        arguments: [
            (69, #"{"retry_after": 30}"#, JobOutcome.unavailable(failure(69), retryAfter: .seconds(30))),
            (69, #"{"retry_after": 0}"#, .unavailable(failure(69))),
            (79, #"{"retry_after": 7.5, "limit": "10/s"}"#, .throttled(failure(79), retryAfter: .seconds(7.5))),
            (79, #"{"retry_after": 1e300}"#, .throttled(failure(79), retryAfter: .seconds(86_400 * 3650))),
            (79, #"{"retry_after": -1}"#, .throttled(failure(79))),
            (79, #"{"retry_after": "30"}"#, .throttled(failure(79))),
            (79, "[30]", .throttled(failure(79))),
            (79, "too many", .throttled(failure(79))),
            (79, "", .throttled(failure(79))),
            (80, "{\n  \"retry_after\": 60\n}", .snoozed(.seconds(60))),
            (80, #"{"retry_after":0.25}"#, .snoozed(.seconds(0.25))),
            // With other statuses, the object is a result or is ignored.
            (0, #"{"retry_after": 30}"#, .succeeded(result: #"{"retry_after": 30}"#)),
            (75, #"{"retry_after": 30}"#, .failed(failure(75))),
        ]
    )
    func retryAfter(status: Int, output: String, expected: JobOutcome) async throws {
        #expect(try await run("printf '%s' '\(output)'; exit \(status)") == expected)
    }

    private static func failure(_ status: Int) -> JobFailure {
        JobFailure("exit.\(status)", "sh exited with status \(status) and wrote nothing to standard error")
    }

    @Test(
        "a program that snoozes without a delay fails, and the message says what to write",
        arguments: ["", "soon", "{}", #"{"retry_after": 0}"#, #"{"retry_after": -5}"#, #"{"retry_after": null}"#]
    )
    func snoozeWithoutTime(output: String) async throws {
        guard case .failed(let failure) = try await run("printf '%s' '\(output)'; exit 80") else {
            Issue.record("not failed")
            return
        }
        #expect(failure.name == "exit.80")
        #expect(failure.message.contains(#"{"retry_after": seconds}"#))
    }

    @Test func status65IsDiscarded() async throws {
        guard case .discarded(let failure) = try await run("echo 'no such address' >&2; exit 65") else {
            Issue.record("not discarded")
            return
        }
        #expect(failure == JobFailure("exit.65", "sh exited with status 65: no such address"))
    }

    @Test func aSignalFails() async throws {
        guard case .failed(let failure) = try await run("kill -9 $$") else {
            Issue.record("not failed")
            return
        }
        #expect(failure.name == "signal.9")
        #expect(failure.message.contains("Killed"))
    }

    @Test func theMessageIsTheEndOfStandardError() async throws {
        let log = RecordedLog()
        let outcome = try await run("seq 1 5000 >&2; echo last >&2; exit 1", log: log)
        let message = try #require(outcome.failure?.message)
        #expect(message.hasSuffix("4999\n5000\nlast"))
        #expect(message.utf8.count < 2200)
        #expect(log.messages.prefix(3) == ["1", "2", "3"])
        #expect(log.messages.count == 1001)
        #expect(log.messages.last == "The program wrote more to standard error than is logged")
    }

    @Test func linesOfStandardErrorAreLoggedCut() async throws {
        let log = RecordedLog()
        #expect(try await run("head -c 100000 /dev/zero | tr '\\0' x >&2", log: log) == .succeeded())
        #expect(log.messages == [String(repeating: "x", count: 2048) + "…"])
    }

    @Test func brokenTextInStandardErrorIsRepaired() async throws {
        let message = try await run("printf 'a\\377b\\000c' >&2; exit 1").failure?.message
        #expect(message == "sh exited with status 1: a\u{FFFD}bc")
    }

    // A program that another test starts at this moment may hold a file open that a test has just written, so these tests
    // wait until it can be run.

    @Test func aProgramThatVanishedCannotBeRunHere() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/tool"
            try "#!/bin/sh\n".write(toFile: file, atomically: true, encoding: .utf8)
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: file)
            let plugin = try ExecPlugin(command: [file])
            try await waitUntil("it runs") { try await run(plugin, Job(kind: "test")) == .succeeded() }
            try FileManager.default.removeItem(atPath: file)
            guard case .unable(let failure) = try await run(plugin, Job(kind: "test")) else {
                Issue.record("not unable")
                return
            }
            #expect(failure.name == "exec.notFound")
            #expect(failure.message.contains(file))
        }
    }

    @Test("a program that is being written cannot be run now, and costs the job nothing")
    func busy() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/tool"
            try "#!/bin/sh\n".write(toFile: file, atomically: true, encoding: .utf8)
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: file)
            let plugin = try ExecPlugin(command: [file])
            let writer = try #require(FileHandle(forWritingAtPath: file))
            let outcome = try await run(plugin, Job(kind: "test"))
            #expect(outcome.outcomeClass == .unable)
            #expect(outcome.failure?.name == "exec.busy")
            try writer.close()
            try await waitUntil("it runs") { try await run(plugin, Job(kind: "test")) == .succeeded() }
        }
    }

    @Test func aFileThatNothingCanInterpretFails() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/tool"
            try "neither a binary nor a script".write(toFile: file, atomically: true, encoding: .utf8)
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: file)
            let plugin = try ExecPlugin(command: [file])
            try await waitUntil("it is tried") {
                try await run(plugin, Job(kind: "test")).failure?.name == "exec.spawn"
            }
        }
    }
}
