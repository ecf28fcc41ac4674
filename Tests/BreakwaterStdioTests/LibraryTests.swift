import BreakwaterStdio
import BreakwaterTesting
import Foundation
import Synchronization
import TestPrograms
import Testing

@Suite("The libraries for handlers") struct LibraryTests {
    /// A handler of each library that sleeps for the payload's `sleep`, and returns its payload.
    static let handlers: [String: [String]] = [
        "python": [
            "python3", "-B", "-c",
            """
            import sys, time
            sys.path.insert(0, "\(clients)/python")
            from breakwater_stdio import serve
            def handle(job):
                if isinstance(job.payload, dict): time.sleep(job.payload.get("sleep", 0))
                return job.payload
            serve(handle)
            """,
        ],
        "asyncio": [
            "python3", "-B", "-c",
            """
            import asyncio, sys
            sys.path.insert(0, "\(clients)/python")
            from breakwater_stdio import serve_async
            async def handle(job):
                if isinstance(job.payload, dict): await asyncio.sleep(job.payload.get("sleep", 0))
                return job.payload
            serve_async(handle)
            """,
        ],
        "node": [
            "node", "-e",
            """
            const { setTimeout } = require("node:timers/promises");
            require("\(clients)/node/breakwater_stdio.js").serve(async (job) => {
              const ms = (job.payload?.sleep ?? 0) * 1000;
              if (ms) await setTimeout(ms, null, { signal: job.signal });
              return job.payload;
            });
            """,
        ],
        "ruby": [
            "ruby", "-e",
            """
            require "\(clients)/ruby/lib/breakwater_stdio"
            BreakwaterStdio.serve(jobs: 2) do |job|
              sleep job.payload["sleep"] if job.payload.is_a?(Hash) && job.payload["sleep"]
              job.payload
            end
            """,
        ],
        "shell": ["sh", clients + "/shell/handler.sh"],
    ]

    private static func isHere(_ program: String) -> Bool { (try? StdioPlugin(command: [program])) != nil }

    @Test("pass the checks of worker stdio-check", arguments: handlers.keys.sorted())
    func conform(library: String) async throws {
        let command = try #require(Self.handlers[library])
        guard Self.isHere(command[0]), library != "shell" || Self.isHere("jq") else {
            print("\(command[0]) is not installed: its library is not checked")
            return
        }
        let findings = try await check(command, slowPayload: library == "shell" ? nil : #"{"sleep": 4}"#)
        #expect(findings.filter { $0.verdict == .failed } == [])
        #expect(findings.count == 13)
        #expect(findings.count { $0.verdict == .skipped } == (library == "shell" ? 4 : 0))
    }

    @Test(
        "pass their own tests",
        arguments: [
            ["python3", "-B", "-m", "unittest", "discover", "-s", "tests"], ["node", "--test", "test/"],
            ["ruby", "-Ilib", "test/breakwater_stdio_test.rb"],
        ]
    )
    func ownTests(command: [String]) async throws {
        guard Self.isHere(command[0]) else {
            print("\(command[0]) is not installed: the tests of its library are not run")
            return
        }
        let folder = clients + "/" + command[0].replacing("python3", with: "python")
        try await withTemporaryDirectory { directory in
            let output = directory + "/output"
            let child = try Child(
                "/usr/bin/env",
                command,
                directory: folder,
                output: .file(output),
                errors: .file(directory + "/errors")
            )
            let status = await child.end()
            let said = try ["output", "errors"].map {
                try String(contentsOfFile: "\(directory)/\($0)", encoding: .utf8)
            }
            #expect(status == 0, "\(said.joined())")
        }
    }
}

/// Runs the checks of `worker stdio-check` on a thread of their own, because they block.
func check(
    _ command: [String],
    slowPayload: String? = nil,
    timeout: Duration = .seconds(60)
) async throws -> [StdioCheck.Finding] {
    try await withCheckedThrowingContinuation { continuation in
        Thread {
            do {
                var findings: [StdioCheck.Finding] = []
                var check = try StdioCheck(command: command)
                check.slowPayload = slowPayload
                check.timeout = timeout
                check.report = { findings.append($0) }
                let isFine = check.run()
                #expect(isFine == findings.allSatisfy { $0.verdict != .failed })
                continuation.resume(returning: findings)
            } catch {
                continuation.resume(throwing: error)
            }
        }.start()
    }
}
