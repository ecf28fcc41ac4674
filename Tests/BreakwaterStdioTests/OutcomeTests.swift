import Breakwater
import BreakwaterStdio
import BreakwaterTesting
import Foundation
import Testing

@Suite("The outcomes of a process's jobs") struct OutcomeTests {
    @Test("each outcome that a Python handler returns or raises arrives")
    func outcomes() async throws {
        let failure = JobFailure("a.name", "a message, \u{1F600}")
        let handler = """
            what = job.payload["do"]
            if what == "nothing": return None
            if what == "result": return {"a": [1, None, "\\u00e9"], "id": job.id}
            if what == "fail": raise Fail("a.name", "a message, \\U0001F600")
            if what == "unavailable": raise Unavailable("a.name", "a message, \\U0001F600", retry_after=30)
            if what == "throttle": raise Throttle("a.name", "a message, \\U0001F600", 7.5)
            if what == "throttle without a time": raise Throttle("a.name", "a message, \\U0001F600")
            if what == "discard": raise Discard("a.name", "a message, \\U0001F600")
            if what == "unable": raise Unable("a.name", "a message, \\U0001F600")
            if what == "snooze": raise Snooze(60)
            if what == "release": raise Release()
            if what == "error": raise KeyError("to")
            if what == "nan": return float("nan")
            """
        let expected: [String: JobOutcome] = [
            "nothing": .succeeded(),
            "result": .succeeded(result: #"{"a":[1,null,"\u00e9"],"id":7}"#),
            "fail": .failed(failure),
            "unavailable": .unavailable(failure, retryAfter: .seconds(30)),
            "throttle": .throttled(failure, retryAfter: .seconds(7.5)),
            "throttle without a time": .throttled(failure),
            "discard": .discarded(failure),
            "unable": .unable(failure),
            "snooze": .snoozed(.seconds(60)),
            "release": .released,
            "error": .failed(JobFailure("KeyError", "'to'")),
        ]
        try await withPython(handler) { plugin in
            for (what, outcome) in expected {
                let job = Job(id: 7, kind: "test", payload: #"{"do": "\#(what)"}"#)
                try await expect(plugin, job, endsAs: outcome)
            }
            let job = Job(kind: "test", payload: #"{"do": "nan"}"#)
            let failed = try await run(plugin, job)
            #expect(failed.failure?.name == "ValueError")
            #expect(plugin.processes.count == 1)
        }
    }

    @Test("a job arrives as it is")
    func theJob() async throws {
        let handler = """
            return [job.id, job.kind, job.queue, job.attempt, job.max_attempts, job.idempotency_key, job.traceparent,
                    job.tracestate, job.deadline, job.payload]
            """
        try await withPython(handler) { plugin in
            let job = Job(
                id: .max,
                queue: "a\"b\\c\n",
                kind: "kind é",
                payload: "{\n \"text\": \"\\u0000 \u{1F600}\",\n \"n\": 1e3}",
                attempt: 2,
                maxAttempts: 9,
                traceparent: "00-ab-cd-01",
                tracestate: "x=y"
            )
            guard case .succeeded(let result?) = try await run(plugin, job) else {
                Issue.record("it did not succeed")
                return
            }
            let values = try #require(try JSONSerialization.jsonObject(with: Data(result.utf8)) as? [Any])
            #expect(values[0] as? Int64 == .max)
            #expect(values[1..<3].map { $0 as? String } == ["kind é", "a\"b\\c\n"])
            #expect(values[3..<5].map { $0 as? Int } == [2, 9])
            #expect(values[5] as? String == "breakwater-\(Int64.max)")
            #expect(values[6..<8].map { $0 as? String } == ["00-ab-cd-01", "x=y"])
            let style = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
            let deadline = try Date(#require(values[8] as? String), strategy: style)
            // The test may have taken a while.
            #expect((-240...61).contains(deadline.timeIntervalSinceNow))
            // The result cannot hold the NUL.
            #expect((values[9] as? [String: Any])?["text"] as? String == " \u{1F600}")
        }
    }

    @Test("a large payload and a large result pass through whole")
    func large() async throws {
        try await withPython("return job.payload", settings: testSettings { $0.maxLineBytes = 16 << 20 }) { plugin in
            let payload = "\"" + String(repeating: "x", count: 5_000_000) + "\""
            try await expect(plugin, Job(kind: "test", payload: payload), endsAs: .succeeded(result: payload))
        }
    }

    @Test("what a handler prints is logged, with its job")
    func printing() async throws {
        let log = RecordedLog()
        try await withPython(
            """
            print("to standard output", flush=True)
            print("to standard error", file=sys.stderr, flush=True)
            subprocess.run(["echo", "by a program"])
            return sys.stdin.read()
            """,
            log: log
        ) { plugin in
            #expect(try await run(plugin, Job(id: 12, kind: "test"), log: log) == .succeeded(result: "\"\""))
            try await waitUntil("the lines are logged") {
                ["to standard output", "to standard error", "by a program"].allSatisfy(log.messages.contains)
            }
        }
    }

    @Test("many jobs at once are each answered once")
    func many() async throws {
        let settings = testSettings {
            $0.processes = 3
            $0.ahead = 5
        }
        try await withPython("return job.id", settings: settings) { plugin in
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for number in 0..<2000 {
                    group.addTask {
                        try await run(plugin, Job(id: Int64(number), kind: "test")) == .succeeded(result: "\(number)")
                    }
                }
                for try await isRight in group { #expect(isRight) }
            }
            #expect(plugin.processes.count == 3)
        }
    }

    @Test("progress and checkpoints reach the run's context")
    func reports() async throws {
        try await withTemporaryDirectory { directory in
            let gate = try Gate(in: directory)
            let handler = """
                job.progress(0.25, "a quarter")
                job.checkpoint({"page": 3})
                open("\(gate.path)").close()
                job.progress(1)
                """
            try await withPython(handler) { plugin in
                let reports = RunReports()
                async let outcome = run(plugin, reports: reports)
                try await waitUntil("the first reports are here while the handler runs") {
                    reports.latest == .init(fraction: 0.25, note: "a quarter", checkpoint: #"{"page":3}"#)
                }
                try await gate.letPass()
                #expect(try await outcome == .succeeded())
                // The library writes this at once, and other progress at most ten times a second.
                #expect(reports.latest == .init(fraction: 1, note: "a quarter", checkpoint: #"{"page":3}"#))
            }
        }
    }
}

extension JobOutcome {
    var failure: JobFailure? {
        switch self {
        case .failed(let failure), .unavailable(let failure, _), .throttled(let failure, _), .unable(let failure),
            .discarded(let failure):
            failure
        case .succeeded, .snoozed, .released: nil
        }
    }
}
