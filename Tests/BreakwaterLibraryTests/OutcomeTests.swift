import Breakwater
import BreakwaterLibrary
import BreakwaterTesting
import Testing

@Suite("The outcome that a library sets") struct OutcomeTests {
    static let allowed: [(String, JobOutcome)] = [
        ("succeed", .succeeded()),
        ("fail", .failed(JobFailure("probe.failed", "it broke"))),
        ("unavailable", .unavailable(JobFailure("probe.down", "no answer"))),
        ("unavailable later", .unavailable(JobFailure("probe.down", ""), retryAfter: .seconds(30))),
        ("throttle", .throttled(JobFailure("probe.rate", "slow"))),
        ("throttle later", .throttled(JobFailure("probe.rate", "slow"), retryAfter: .seconds(86_400 * 3650))),
        ("discard", .discarded(JobFailure("probe.bad", "never"))),
        ("snooze", .snoozed(.milliseconds(1500))),
        ("unable", .unable(JobFailure("probe.noGPU", "no GPU"))),
        ("release", .released),
        ("not JSON", .succeeded(result: "\"{not json\"")),
        ("blank", .succeeded()),
        ("odd texts", .failed(JobFailure("ab\u{FFFD}", "cd\u{FFFD}"))),
        ("twice", .succeeded(result: "2")),
        ("larger", .succeeded()),
        ("nothing", .failed(JobFailure("library.noOutcome", "the library returned without having set an outcome"))),
        ("thread", .succeeded(result: "\"another thread\"")),
    ]

    @Test("is the run's")
    func allowed() async throws {
        try await withProbe { plugin, _ in
            for (word, expected) in Self.allowed {
                let outcome = try await run(word, in: plugin)
                #expect(outcome == expected, "\(word)")
            }
        }
    }

    static let invalid = [
        ("unknown outcome", "there is no outcome 99"),
        ("zero", "struct_size is 0"),
        ("small", "struct_size is 8"),
        ("no name", "its name is not a text of 1 to 200 bytes"),
        ("empty name", "its name is not a text of 1 to 200 bytes"),
        ("long name", "its name is not a text of 1 to 200 bytes"),
        ("NULL name", "its name is not a text of 1 to 200 bytes"),
        ("NULL message", "its message has no text, or a length that cannot be"),
        ("endless result", "its result has no text, or a length that cannot be"),
        ("negative time", "its retry_after_ms is -1, which is below 0"),
        ("no time", "it is snoozed without a retry_after_ms above 0"),
        ("time of a failure", "it has a retry_after_ms, which only"),
        ("NULL outcome", "it is NULL"),
    ]

    @Test("is refused if it is not allowed, and the run fails with the reason")
    func invalid() async throws {
        try await withProbe { plugin, _ in
            for (word, reason) in Self.invalid {
                let outcome = try await run(word, in: plugin)
                guard case .failed(let failure) = outcome else {
                    Issue.record("\(word): \(outcome)")
                    continue
                }
                #expect(failure.name == "library.invalidOutcome", "\(word)")
                #expect(failure.message.contains(reason), "\(word): \(failure.message)")
            }
        }
    }

    @Test("has copies of the library's texts, and a result that is cut where it is too long")
    func longResult() async throws {
        try await withProbe(maxResultBytes: 100) { plugin, _ in
            let log = RecordedLog()
            let outcome = try await run("long result", in: plugin, log: log)
            #expect(outcome == .succeeded(result: "\"\(String(repeating: "x", count: 100))\""))
            let line = try #require(log.lines.first { $0.contains("cut") })
            #expect(line.contains("kept_bytes=100"))
            #expect(line.contains("result_bytes=4999"))
        }
    }
}
