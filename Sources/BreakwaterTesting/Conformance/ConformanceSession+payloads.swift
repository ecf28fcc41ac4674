import Breakwater
import Foundation

extension ConformanceSession {
    /// The largest payload of the corpus that a handler is to echo. Larger ones exceed what plugins keep of a result.
    private static let longestPayload = 1 << 18

    /// Checks that a handler gets any payload as it is.
    func checkPayloads(_ scenario: PluginConformance.Scenario) async {
        let samples = HostileCorpus.payloads.filter { $0.value.utf8.count <= Self.longestPayload }
        for sample in samples {
            guard let (_, outcome) = await outcome(scenario, { $0.payload = sample.value }) else { return }
            let title = "\(scenario), with the payload '\(sample)'"
            if case .succeeded(let result) = outcome {
                // Some languages cannot tell null from no result.
                findings.expect(
                    JSONTokens.areEqual(result ?? "null", sample.value) || sample.name == HostileCorpus.repeatedKey,
                    "\(title): the result is \(result.text)"
                )
            } else if sample.name.hasPrefix("a text: ") {
                // Some languages have no numbers of 10,000 digits, for example. All have texts.
                findings.add("\(title): it ended as \(outcome.summary)")
            }
        }
    }

    /// Checks that the fields of a job reach its handler.
    func checkDescription(_ scenario: PluginConformance.Scenario, withCheckpoint: Bool) async {
        let (checkpoint, number) = (#"{"page": 3}"#, Int64(1) << 53 + 1)
        let run = await start(scenario) { job in
            // These are unusual, and no number of JavaScript can hold this id.
            job.id = number + job.id
            job.queue = "a queue, \"quoted\" é 100% \\"
            (job.attempt, job.maxAttempts) = (3, 7)
            job.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            job.tracestate = "vendor=value"
            if withCheckpoint { job.checkpoint = checkpoint }
        }
        guard let run, let outcome = await outcome(of: run, "\(scenario)") else { return }
        guard case .succeeded(let result?) = outcome,
            let members = try? JSONSerialization.jsonObject(with: Data(result.utf8)) as? [String: Any]
        else {
            findings.add("\(scenario): it ended as \(outcome.summary), not with a JSON object as its result")
            return
        }
        let (job, expected) = (run.job, expectedFields(run.job))
        for (field, value) in expected {
            let seen = members[field.rawValue].map { "\($0)" }
            findings.expect(seen == value, "\(scenario): the field \(field.rawValue) is \(seen.text), not \(value)")
        }
        if job.checkpoint != nil {
            let seen = members[JobField.checkpoint.rawValue].flatMap(Self.json)
            findings.expect(
                JSONTokens.areEqual(seen, checkpoint),
                "\(scenario): the field checkpoint is \(seen.text), not \(checkpoint)"
            )
        }
        let deadline = members[JobField.deadline.rawValue].map { "\($0)" } ?? ""
        let style = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
        let left = (run.deadline - .now) / .seconds(1)
        let isRight = (try? Date(deadline, strategy: style)).map { abs($0.timeIntervalSinceNow - left) < 2 } ?? false
        findings.expect(isRight, "\(scenario): the field deadline is '\(deadline.excerpt)', not the run's deadline")
    }

    private func expectedFields(_ job: Job) -> [(JobField, String)] {
        [
            (.id, "\(job.id)"), (.kind, job.kind), (.queue, job.queue), (.attempt, "\(job.attempt)"),
            (.maxAttempts, "\(job.maxAttempts)"), (.idempotencyKey, job.idempotencyKey),
            (.traceparent, job.traceparent ?? ""), (.tracestate, job.tracestate ?? ""),
        ]
    }

    /// A member as JSON text. It may be that text already.
    private static func json(_ value: Any) -> String? {
        if let text = value as? String { return text }
        let data = try? JSONSerialization.data(withJSONObject: value, options: .fragmentsAllowed)
        return data.map { String(decoding: $0, as: UTF8.self) }
    }

    // MARK: At once

    /// Checks that runs at once do not mix their jobs.
    func checkTogether(_ scenarios: [PluginConformance.Scenario]) async {
        guard let echo = scenarios.first(where: \.isEcho) else { return }
        let title = "\(echo), beside others"
        let alone = await outcome(echo) { $0.payload = #"{"text":"alone"}"# }
        guard let usual = alone?.run.reports.latest else { return }
        var runs: [ObservedRun] = []
        for number in 0..<max(2, suite.runsAtOnce) {
            let payload = "{\"text\":\"one of several\",\"number\":\(number)}"
            guard let run = await start(echo, { $0.payload = payload }) else { return }
            runs.append(run)
        }
        var reporting: [(PluginConformance.Scenario, RunReports.Values, ObservedRun)] = []
        for scenario in scenarios {
            guard case .reports(let expected) = scenario.behaviour, let run = await start(scenario) else { continue }
            reporting.append((scenario, expected, run))
        }
        for run in runs {
            guard let outcome = await outcome(of: run, title) else { continue }
            guard case .succeeded(let result) = outcome else {
                findings.add("\(title): it ended as \(outcome.summary), not as succeeded")
                continue
            }
            findings.expect(
                JSONTokens.areEqual(result, run.job.payload),
                "\(title): the run with the payload \(run.job.payload) got the result \(result.text)"
            )
            findings.expect(
                run.reports.latest == usual,
                "\(title): the run with the payload \(run.job.payload) got reports that are not its own"
            )
        }
        for (scenario, expected, run) in reporting {
            guard let outcome = await outcome(of: run, "\(scenario), beside others") else { continue }
            check(run, outcome, scenario, reports: expected)
        }
    }
}

extension PluginConformance.Scenario {
    var isEcho: Bool { if case .echoes = behaviour { true } else { false } }
}
