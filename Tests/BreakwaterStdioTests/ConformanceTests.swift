import Breakwater
import BreakwaterStdio
import BreakwaterTesting
import TestPrograms
import Testing

@Suite("The stdio plugin conforms") struct ConformanceTests {
    /// Does what the kind of the job says.
    private static let script = #"""
        import sys, threading
        from breakwater_stdio import *

        def handle(job):
            kind = job.kind
            if kind == "echo": return job.payload
            if kind == "list": return {"a": [1, True, None]}
            if kind == "fail": raise Fail("mail.refused", "no")
            if kind == "error": raise KeyError("to")
            if kind == "discard": raise Discard("mail.address", "no")
            if kind == "unavailable": raise Unavailable("mail.down", "no", retry_after=30)
            if kind == "throttle": raise Throttle("mail.rate", "no", 7.5)
            if kind == "unable": raise Unable("mail.key", "no")
            if kind == "snooze": raise Snooze(60)
            if kind == "release": raise Release()
            if kind == "long": return "x" * 2000000
            if kind == "surrogate": return "\ud800"
            if kind == "log": print("a line of the job", file=sys.stderr)
            if kind == "report":
                job.progress(1, "done")
                job.checkpoint({"page": 3})
            if kind == "wait":
                job.progress(note="waits")
                threading.Event().wait()
            if kind == "describe":
                names = ["id", "kind", "queue", "attempt", "max_attempts", "deadline", "idempotency_key",
                         "traceparent", "tracestate"]
                return {**{name: getattr(job, name) for name in names}, "checkpoint": job.last_checkpoint}

        serve(handle)
        """#

    /// Breaks the protocol as the kind of the job says.
    private static let rawProgram = #"""
        import json, sys, threading
        def say(bytes):
            sys.stdout.buffer.write(bytes + b"\n"); sys.stdout.buffer.flush()
        sys.stdin.readline()
        say(b'{"type":"hello","protocol":1,"jobs":1}')
        for line in sys.stdin:
            message = json.loads(line)
            if message["type"] != "run": continue
            start = b'{"type":"result","run":%d,' % message["run"]
            kind = message["kind"]
            if kind == "utf8": say(start + b'"outcome":"succeeded","result":"a\xff\xfe"}')
            elif kind == "nul": say(start + b'"outcome":"succeeded","result":"a\\u0000\\ud800"}')
            elif kind == "json": say(b"\xff\xfe no JSON")
            elif kind == "flood": say(b"x" * 2000000)
            elif kind == "exit": sys.exit(3)
            elif kind == "wait": threading.Event().wait()
            else: say(start + b'"outcome":"succeeded"}')
        """#

    private static func plugin(_ script: String) throws -> StdioPlugin {
        try StdioPlugin(
            command: ["python3", "-c", script],
            environment: pythonEnvironment,
            settings: testSettings { $0.processes = 3 }
        )
    }

    private static func suite() -> PluginConformance {
        func job(_ kind: String) -> Job { Job(kind: kind) }
        var suite = PluginConformance(scenarios: [
            .succeeds(job("list"), result: #"{"a": [1, true, null]}"#),
            .succeeds(job("nothing")),
            .fails(job("fail"), name: "mail.refused"),
            .fails(job("error"), name: "KeyError"),
            .discards(job("discard"), name: "mail.address"),
            .unavailable(job("unavailable"), name: "mail.down", retryAfter: .seconds(30)),
            .throttled(job("throttle"), name: "mail.rate", retryAfter: .seconds(7.5)),
            .unable(job("unable"), name: "mail.key"),
            .snoozes(job("snooze"), for: .seconds(60)),
            .releases(job("release")),
            .fails(job("long"), name: "result.tooLong"),
            .answers(job("surrogate")),
            .logs(job("log"), "a line of the job"),
            .reports(job("report"), fraction: 1, note: "done", checkpoint: #"{"page": 3}"#),
            .waits(job("wait")),
            .describesJob(job("describe")),
            .echoes(job("echo")),
        ]) { try plugin(script) }
        suite.patience = .seconds(240)
        return suite
    }

    private static func rawSuite() -> PluginConformance {
        func job(_ kind: String) -> Job { Job(kind: kind) }
        var suite = PluginConformance(scenarios: [
            .succeeds(job("fine")),
            .answers(job("utf8")),
            .answers(job("nul")),
            .fails(job("json"), name: "stdio.protocol"),
            .fails(job("flood"), name: "stdio.flood"),
            .fails(job("exit"), name: "exit.3"),
            .waits(job("wait")),
        ]) { try plugin(rawProgram) }
        suite.patience = .seconds(240)
        return suite
    }

    @Test("to what every plugin promises")
    func conforms() async throws {
        try await Self.suite().check()
    }

    @Test("also when its processes break the protocol, and know no cancellations")
    func conformsWithBrokenProcesses() async throws {
        try await Self.rawSuite().check()
    }

    @Test("and leaves no descriptor and no process behind")
    func leavesNothing() async throws {
        try await runAlone("BreakwaterStdioTests.ConformanceTests/leavesNothing") {
            for var suite in [Self.suite(), Self.rawSuite()] {
                suite.isAlone = true
                try await suite.check()
            }
        }
    }
}
