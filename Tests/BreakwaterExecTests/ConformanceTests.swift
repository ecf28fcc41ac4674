import Breakwater
import BreakwaterExec
import BreakwaterTesting
import TestPrograms
import Testing

@Suite("The exec plugin conforms") struct ConformanceTests {
    /// Does what the kind of the job says.
    private static let script = #"""
        quoted() { printf '%s' "$1" | sed 's/["\\]/\\&/g'; }
        case $BREAKWATER_KIND in
        echo) exec cat ;;
        list) echo '{"a": [1, true, null]}' ;;
        nothing) ;;
        fail) echo 'it is broken' >&2; exit 1 ;;
        signal) kill -9 $$ ;;
        discard) exit 65 ;;
        unavailable) echo '{"retry_after": 30}'; exit 69 ;;
        throttle) echo '{"retry_after": 7.5}'; exit 79 ;;
        snooze) echo '{"retry_after": 60}'; exit 80 ;;
        never) exit 80 ;;
        broken) printf 'a\377\376"\000b' ;;
        broken-error) printf 'a\377\376"\000b' >&2; exit 1 ;;
        long) head -c 2000000 /dev/zero | tr '\0' x ;;
        long-error) head -c 2000000 /dev/zero | tr '\0' x >&2; exit 1 ;;
        log) echo 'a line of the job' >&2 ;;
        report)
            echo '{"fraction": 0.25, "note": "first"}' >&3
            echo '{"checkpoint": {"page": 3}}' >&3
            echo '{"fraction": 0.5, "note": "second"}' >&3 ;;
        daemon) setsid sleep 600 >/dev/null 2>&1 </dev/null & ;;
        wait) echo '{"note": "waits"}' >&3; sleep 600 ;;
        resist) trap '' TERM; echo '{"note": "resists"}' >&3; while :; do sleep 1; done ;;
        describe)
            printf '{"id":"%s","kind":"%s","queue":"%s",' "$BREAKWATER_JOB_ID" "$BREAKWATER_KIND" \
                "$(quoted "$BREAKWATER_QUEUE")"
            printf '"attempt":%s,"max_attempts":%s,"deadline":"%s",' "$BREAKWATER_ATTEMPT" "$BREAKWATER_MAX_ATTEMPTS" \
                "$BREAKWATER_DEADLINE"
            printf '"idempotency_key":"%s","traceparent":"%s","tracestate":"%s","checkpoint":%s}' \
                "$BREAKWATER_IDEMPOTENCY_KEY" "$TRACEPARENT" "$TRACESTATE" "$BREAKWATER_CHECKPOINT" ;;
        esac
        """#

    private static func suite() -> PluginConformance {
        func job(_ kind: String) -> Job { Job(kind: kind) }
        var suite = PluginConformance(scenarios: [
            .succeeds(job("list"), result: #"{"a": [1, true, null]}"#),
            .succeeds(job("nothing")),
            .fails(job("fail"), name: "exit.1"),
            .fails(job("signal"), name: "signal.9"),
            .discards(job("discard"), name: "exit.65"),
            .unavailable(job("unavailable"), name: "exit.69", retryAfter: .seconds(30)),
            .throttled(job("throttle"), name: "exit.79", retryAfter: .seconds(7.5)),
            .snoozes(job("snooze"), for: .seconds(60)),
            .fails(job("never"), name: "exit.80"),
            .answers(job("broken")),
            .answers(job("broken-error")),
            .givesTooMuch(job("long"), keeping: 1 << 19),
            .fails(job("long-error"), name: "exit.1"),
            .logs(job("log"), "a line of the job"),
            .reports(job("report"), fraction: 0.5, note: "second", checkpoint: #"{"page": 3}"#),
            .succeeds(job("daemon")),
            .waits(job("wait")),
            .waits(job("resist")),
            .describesJob(job("describe")),
            .echoes(job("echo")),
        ]) {
            try ExecPlugin(
                command: ["sh", "-c", script],
                maxOutputBytes: 1 << 19,
                killAfter: .milliseconds(200),
                reportsProgress: true
            )
        }
        suite.patience = .seconds(240)
        return suite
    }

    @Test("to what every plugin promises")
    func conforms() async throws {
        try await Self.suite().check()
    }

    @Test("and leaves no descriptor and no process behind")
    func leavesNothing() async throws {
        try await runAlone("BreakwaterExecTests.ConformanceTests/leavesNothing") {
            var suite = Self.suite()
            suite.isAlone = true
            try await suite.check()
        }
    }
}
