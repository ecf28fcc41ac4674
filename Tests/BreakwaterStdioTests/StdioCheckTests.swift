import BreakwaterStdio
import Testing

@Suite("worker stdio-check") struct StdioCheckTests {
    /// A correct handler, whose parts are replaced by wrong ones.
    private static func handler(
        hello: String = #"say({"type": "hello", "protocol": 1, "jobs": 2, "can": ["cancel", "heartbeat"]})"#,
        run: String = "answer(message)",
        unknown: String = "pass",
        drain: String = "sys.exit(0)",
        end: String = "sys.exit(0)"
    ) -> [String] {
        [
            "python3", "-c",
            """
            import json, os, sys, time
            def say(message): print(json.dumps(message), flush=True)
            def answer(message): say({"type": "result", "run": message["run"], "outcome": "succeeded"})
            sys.stdin.readline()
            \(hello)
            while True:
                line = sys.stdin.readline()
                if not line:
                    \(end)
                message = json.loads(line)
                if message["type"] == "run":
                    \(run)
                elif message["type"] == "drain":
                    \(drain)
                elif message["type"] != "cancel":
                    \(unknown)
            """,
        ]
    }

    private func failures(_ command: [String]) async throws -> [String: String] {
        let findings = try await check(command, timeout: .seconds(2)).filter { $0.verdict == .failed }
        return Dictionary(uniqueKeysWithValues: findings.map { ($0.check, $0.note) })
    }

    @Test("passes a correct handler")
    func correct() async throws {
        let failures = try await failures(Self.handler())
        #expect(failures == [:])
    }

    @Test("names a wrong hello, and stops there")
    func wrongHello() async throws {
        let findings = try await check(Self.handler(hello: #"say({"type": "hello", "protocol": 2})"#))
        #expect(findings.map(\.check) == ["hello"])
        #expect(findings.first?.note.contains("version 1") == true)
        let printing = try await check(Self.handler(hello: "print('ready', flush=True)"))
        #expect(printing.first?.note.contains("not a JSON object: ready") == true)
        let gone = try await check(["sh", "-c", "exit 3"])
        #expect(gone.first?.note.contains("status 3") == true)
    }

    @Test("finds answers that come twice, never, or in the wrong form")
    func wrongAnswers() async throws {
        let twice = try await failures(Self.handler(run: "answer(message); answer(message)"))
        #expect(twice["one job"]?.contains("does not have (any more)") == true)
        let never = try await failures(Self.handler(run: "message['payload'] == [] or answer(message)"))
        #expect(never.keys.sorted() == ["unusual payloads"])
        #expect(never["unusual payloads"]?.contains("did not come in time") == true)
        let wrong = try await failures(Self.handler(run: "print('done', flush=True)"))
        #expect(wrong["one job"]?.contains("not a JSON object: done") == true)
    }

    @Test("finds a handler that fails on what it does not know")
    func unknownMessages() async throws {
        let failures = try await failures(Self.handler(unknown: "os._exit(1)"))
        #expect(failures.keys.sorted() == ["unknown messages and members"])
    }

    @Test("finds a handler that does not end when it should")
    func noEnd() async throws {
        let drain = try await failures(Self.handler(drain: "time.sleep(600)"))
        #expect(drain == ["draining": "it did not exit in time"])
        let end = try await failures(Self.handler(end: "time.sleep(600)"))
        #expect(end == ["the end of its input": "it did not exit in time"])
        let status = try await failures(Self.handler(drain: "sys.exit(4)"))
        #expect(status["draining"]?.contains("exit.4 instead of status 0") == true)
    }

    @Test("finds promised heartbeats that do not come, and slow jobs that go on when they are cancelled")
    func slow() async throws {
        let command = Self.handler(run: "time.sleep(5 if message['payload'] == 'slow' else 0); answer(message)")
        let findings = try await check(command, slowPayload: "\"slow\"", timeout: .seconds(2))
        #expect(
            findings.filter { $0.verdict == .failed }.map(\.check) == ["heartbeats", "a slow run that is cancelled"]
        )
    }
}
