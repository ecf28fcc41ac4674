import Breakwater
import BreakwaterLibrary
import BreakwaterTesting
import Foundation
import Testing

@Suite("The functions that a library calls") struct HostFunctionTests {
    @Test("report progress, and refuse texts that cannot be")
    func progress() async throws {
        try await withProbe { plugin, _ in
            let reports = RunReports()
            try await expect("report", in: plugin, reports: reports, endsAs: .succeeded(result: "[0,0,0,-2,-2]"))
            #expect(reports.latest == RunReports.Values(fraction: 0.5, note: "a b\u{FFFD}"))
        }
    }

    @Test("save checkpoints, refuse those that are no JSON or too large, and say so in the log")
    func checkpoints() async throws {
        try await withProbe { plugin, _ in
            let (reports, log) = (RunReports(), RecordedLog())
            let outcome = try await run("save", in: plugin, log: log, reports: reports)
            #expect(outcome == .succeeded(result: "[0,-2,-2,-3,-2,-2,-1]"))
            #expect(reports.latest.checkpoint == #"{"page": 1}"#)
            #expect(log.warnings.count { $0.contains("so it is not stored") } == 4)
            #expect(log.warnings.contains { $0.contains("a checkpoint has 65537 bytes of JSON") })
        }
    }

    @Test("log lines, with the job's identity if they belong to a job, and cut")
    func log() async throws {
        try await withProbe { plugin, probe in
            let log = RecordedLog()
            try await expect("log", in: plugin, log: log, endsAs: .succeeded(result: "[0,0,-2,-2,0]"))
            #expect(log.warnings == ["from thelibrary\u{FFFD}"])
            #expect(log.lines.contains { $0.contains("from thelibrary") && $0.contains("job=1") })
            #expect(log.messages.contains(String(repeating: "z", count: 8192)))
            #expect(probe.log.messages.contains("opened"))
            #expect(probe.log.lines.contains { $0.hasPrefix("of no job") && !$0.contains("job=1") })
        }
    }

    @Test("do nothing for a run that has ended, or that never was")
    func oldRun() async throws {
        try await withProbe { plugin, _ in
            try await expect("remember", in: plugin, endsAs: .succeeded())
            try await expect("use old run", in: plugin, endsAs: .succeeded(result: "[1,1,-1,-1,-1,-1,-1]"))
        }
    }

    private struct Description: Decodable, Equatable {
        var id, attempt, max_attempts, deadline_ms: Int64
        var payload: [String: [String]]
        var kind, queue, key, traceparent, tracestate: String
        var checkpoint: [String: Int]?
        var settings: [String: String]
        var sizes: Int
    }

    private func describe(_ job: Job, settings: String = "{}") async throws -> Description {
        var description: Description?
        try await withProbe(settings: settings) { plugin, _ in
            let outcome = try await run(job, in: plugin)
            guard case .succeeded(let result?) = outcome else {
                Issue.record("\(outcome)")
                return
            }
            description = try JSONDecoder().decode(Description.self, from: Data(result.utf8))
        }
        return try #require(description)
    }

    @Test("come with the job and the settings")
    func job() async throws {
        var job = Job(
            id: .max,
            queue: "bulk",
            kind: "page.load",
            payload: #"{"ü": ["\n"]}"#,
            attempt: 3,
            maxAttempts: 7,
            traceparent: "00-1-2-01",
            tracestate: "a=b"
        )
        job.checkpoint = #"{"page": 4}"#
        let all = try await describe(job, settings: #" {"model": "large"} "#)
        let due = Int64(Date(timeIntervalSinceNow: 60).timeIntervalSince1970 * 1000)
        #expect((due - 240_000...due).contains(all.deadline_ms))
        #expect([all.id, all.attempt, all.max_attempts] == [.max, 3, 7])
        #expect([all.kind, all.queue, all.key] == ["page.load", "bulk", job.idempotencyKey])
        #expect(all.payload == ["ü": ["\n"]])
        #expect(all.checkpoint == ["page": 4])
        #expect([all.traceparent, all.tracestate] == ["00-1-2-01", "a=b"])
        #expect(all.settings == ["model": "large"])
        #expect(all.sizes == 1)

        let least = try await describe(Job(kind: "k", payload: "{}"))
        #expect(least.checkpoint == nil)
        #expect([least.traceparent, least.tracestate] == ["-", "-"])
        #expect(least.settings == [:])
    }
}
