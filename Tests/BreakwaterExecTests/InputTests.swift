import Breakwater
import Foundation
import Testing

import BreakwaterExec

@testable import BreakwaterProcess

@Suite struct InputTests {
    @Test func thePayloadArrivesWhole() async throws {
        let payload = "\"" + String(repeating: "x", count: 10_000_000) + "\""
        #expect(try await run("wc -c", payload: payload) == .succeeded(result: "10000002"))
    }

    @Test func thePayloadComesBackThroughCat() async throws {
        let payload = #"{"to": "a@b.c", "körper": "$(id); `id`"}"#
        let outcome = try await run(try ExecPlugin(command: ["cat"]), Job(kind: "test", payload: payload))
        #expect(outcome == .succeeded(result: payload))
    }

    @Test(arguments: ["exit 0", "exec 0<&-; sleep 0.05", "head -c 10 >/dev/null"])
    func aProgramNeedNotReadIt(script: String) async throws {
        let payload = "\"" + String(repeating: "x", count: 10_000_000) + "\""
        #expect(try await run(script, payload: payload) == .succeeded())
    }

    @Test func thereIsNoShell() async throws {
        let words = ["printf", "%s|", "$(id)", ";", "`id`", "*", "$HOME", "a b", "&& false", ""]
        let outcome = try await run(try ExecPlugin(command: words), Job(kind: "test"))
        #expect(outcome == .succeeded(result: "\"$(id)|;|`id`|*|$HOME|a b|&& false||\""))
    }

    @Test func theEnvironmentIsExactlyWhatWasListed() async throws {
        let plugin = try ExecPlugin(
            command: ["/usr/bin/env"],
            environment: ["GREETING": "hello; $(id)", "BREAKWATER_KIND": "not this"],
            inherit: ["PATH", "BREAKWATER_TEST_MISSING"]
        )
        let job = Job(
            id: 7,
            queue: "bulk",
            kind: "a\0b",
            attempt: 2,
            maxAttempts: 9,
            traceparent: "00-ab-cd-01"
        )
        var seen = try await variables(of: plugin, job)
        let deadlineText = seen.removeValue(forKey: "BREAKWATER_DEADLINE")
        let deadline = try Date(
            #require(deadlineText),
            strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)
        )
        #expect(abs(deadline.timeIntervalSinceNow) <= 60)
        #expect(seen.removeValue(forKey: "BREAKWATER_RUN_ID")?.hasPrefix(RunMark.worker + ".") == true)
        #expect(
            seen == [
                "PATH": ProcessInfo.processInfo.environment["PATH"],
                "GREETING": "hello; $(id)",
                "BREAKWATER_JOB_ID": "7",
                "BREAKWATER_KIND": "ab",
                "BREAKWATER_QUEUE": "bulk",
                "BREAKWATER_ATTEMPT": "2",
                "BREAKWATER_MAX_ATTEMPTS": "9",
                "BREAKWATER_IDEMPOTENCY_KEY": "breakwater-7",
                "TRACEPARENT": "00-ab-cd-01",
            ]
        )
    }

    @Test func withoutATraceThereIsNoVariableForIt() async throws {
        let plugin = try ExecPlugin(command: ["/usr/bin/env"], inherit: [])
        let seen = try await variables(of: plugin, Job(kind: "test"))
        #expect(seen["TRACEPARENT"] == nil)
        #expect(seen["BREAKWATER_KIND"] == "test")
    }

    @Test func theWorkingDirectoryIsTheConfiguredOne() async throws {
        let plugin = try ExecPlugin(command: ["pwd", "-P"], workingDirectory: "/usr")
        #expect(try await run(plugin, Job(kind: "test")) == .succeeded(result: "\"/usr\\n\""))
    }

    private func variables(of plugin: ExecPlugin, _ job: Job) async throws -> [String: String] {
        guard case .succeeded(let result?) = try await run(plugin, job) else { return [:] }
        let text = try JSONDecoder().decode(String.self, from: Data(result.utf8))
        let pairs = text.split(separator: "\n").map { line in
            let parts = line.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            return (String(parts[0]), String(parts[1]))
        }
        return Dictionary(uniqueKeysWithValues: pairs)
    }
}
