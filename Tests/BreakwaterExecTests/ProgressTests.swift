import BreakwaterTesting
import Foundation
import Testing

@testable import Breakwater
@testable import BreakwaterExec

@Suite("A program that reports its progress")
struct ProgressTests {
    private func run(
        _ script: String,
        checkpoint: String? = nil,
        reports: RunReports? = RunReports(),
        reportsProgress: Bool = true,
        log: RecordedLog = RecordedLog()
    ) async throws -> JobOutcome {
        let plugin = try ExecPlugin(command: ["sh", "-c", script], reportsProgress: reportsProgress)
        var job = Job(kind: "test")
        job.checkpoint = checkpoint
        var context = JobContext(job: job, deadline: .now + .seconds(60), logger: log.logger())
        context.reports = reports
        return try await plugin.run(job, context: context)
    }

    @Test("writes lines of JSON to the descriptor that BREAKWATER_PROGRESS_FD names")
    func writes() async throws {
        let reports = RunReports()
        let script = #"""
            echo '{"fraction": 0.25, "note": "a quarter"}' >&"$BREAKWATER_PROGRESS_FD"
            echo '{"checkpoint": {"page": 3}}' >&3
            printf '{"fraction": 0.5}' >&3
            """#
        #expect(try await run(script, reports: reports) == .succeeded())
        #expect(reports.latest == .init(fraction: 0.5, note: "a quarter", checkpoint: #"{"page": 3}"#))
    }

    @Test("has the last checkpoint in BREAKWATER_CHECKPOINT, also a large one, and nothing if there is none")
    func checkpoint() async throws {
        let script = #"printf %s "${BREAKWATER_CHECKPOINT-none}""#
        #expect(try await run(script, checkpoint: #"{"page": 3}"#) == .succeeded(result: #"{"page": 3}"#))
        let large = "\"" + String(repeating: "x", count: 65_534) + "\""
        #expect(try await run(script, checkpoint: large, reportsProgress: false) == .succeeded(result: large))
        #expect(try await run(script) == .succeeded(result: "\"none\""))
    }

    @Test("that is not to report any has no such descriptor")
    func closed() async throws {
        let script = #"[ -z "$BREAKWATER_PROGRESS_FD" ] && [ ! -e /proc/self/fd/3 ] && printf none"#
        #expect(try await run("exec sh -c '\(script)'", reportsProgress: false) == .succeeded(result: "\"none\""))
    }

    @Test("may write as much as it likes, and the latest values count")
    func flood() async throws {
        let reports = RunReports()
        let script = #"""
            echo '{"checkpoint": "first"}' >&3
            yes '{"note": "flood"}' | head -n 200000 >&3
            head -c 1000000 /dev/zero | tr '\0' x >&3
            echo >&3
            echo '{"checkpoint": "last", "note": "end"}' >&3
            yes '{"fraction": 1}' | head -n 100 >&3
            """#
        #expect(try await run(script, reports: reports) == .succeeded())
        #expect(reports.latest == .init(fraction: 1, note: "end", checkpoint: "\"last\""))
    }

    @Test(
        "is told of the first line that cannot be used, by the log",
        arguments: [
            ("half", "not a JSON object"), ("[1]", "not a JSON object"), (#"{"fraction": "half"}"#, "not a number"),
            (#"{"note": 7}"#, "not a text"),
        ]
    )
    func invalid(line: String, fault: String) async throws {
        let (log, reports) = (RecordedLog(), RunReports())
        let script = "echo '\(line)' >&3; echo '\(line)' >&3; echo '{\"note\": \"on\"}' >&3"
        #expect(try await run(script, reports: reports, log: log) == .succeeded())
        #expect(reports.latest == .init(note: "on"))
        #expect(log.messages.count { $0.hasPrefix("What the program reported is ignored") && $0.contains(fault) } == 1)
    }

    @Test("is told of a line that is too long, also if it is the last one and has no line feed")
    func tooLong() async throws {
        let (log, reports) = (RecordedLog(), RunReports())
        let script = #"""
            echo '{"note": "on"}' >&3
            head -c 100000 /dev/zero | tr '\0' x >&3
            """#
        #expect(try await run(script, reports: reports, log: log) == .succeeded())
        #expect(reports.latest == .init(note: "on"))
        #expect(log.messages.contains { $0.contains("is longer than 73728 bytes") }, "\(log.messages)")
    }

    @Test("keeps its last checkpoint if the next one is too large")
    func tooLarge() async throws {
        let (log, reports) = (RecordedLog(), RunReports())
        let script = #"""
            echo '{"checkpoint": 1}' >&3
            printf '{"checkpoint": "' >&3; head -c 66000 /dev/zero | tr '\0' x >&3; echo '"}' >&3
            """#
        #expect(try await run(script, reports: reports, log: log) == .succeeded())
        #expect(log.messages.contains { $0.contains("at most 65536 are kept") }, "\(log.messages)")
    }
}
