import Breakwater
import Logging

/// A plugin between its start and its stop, and the checks of its runs.
struct ConformanceSession: Sendable {
    let suite: PluginConformance
    let plugin: any HandlerPlugin
    let findings: Findings
    let tokens = RunTokens()

    /// How long a run that waits has to get under way, unless it reports progress earlier.
    private static let timeToBegin = Duration.milliseconds(500)

    // MARK: Runs

    /// Starts a run.
    ///
    /// - Parameters:
    ///   - scenario: The job.
    ///   - deadline: The time until the run's deadline.
    ///   - isCancelled: Whether it is cancelled before it begins.
    ///   - change: Changes the job.
    /// - Returns: The run; nil if it cannot be started, which is a finding then.
    func start(
        _ scenario: PluginConformance.Scenario,
        deadline: Duration = .seconds(3600),
        isCancelled: Bool = false,
        _ change: (inout Job) -> Void = { _ in }
    ) async -> ObservedRun? {
        var job = scenario.job
        job.id = RunIDs.next()
        change(&job)
        let run = ObservedRun(job, deadline: .now + deadline)
        do {
            try await run.start(on: plugin, isCancelled: isCancelled, tokens, prepare: suite.prepare)
            return run
        } catch {
            findings.add("\(scenario): the run cannot be prepared: \(error)")
            return nil
        }
    }

    /// Waits for the end of a run that is not cancelled, and checks the rules for all outcomes.
    ///
    /// - Returns: The outcome; nil if there is none, which is a finding then.
    func outcome(of run: ObservedRun, _ title: String) async -> JobOutcome? {
        let outcome: JobOutcome
        switch await run.end(within: suite.patience) {
        case nil:
            findings.add("\(title): the run had not ended after \(suite.patience)")
            run.cancel()
            return nil
        case .cancellation:
            findings.add("\(title): the run threw CancellationError, although it was not cancelled")
            return nil
        case .error(let error): outcome = JobOutcome(of: error)
        case .outcome(let returned): outcome = returned
        }
        for fault in outcome.faults { findings.add("\(title): \(fault)") }
        return outcome
    }

    /// Runs a job to its end.
    func outcome(
        _ scenario: PluginConformance.Scenario,
        _ change: (inout Job) -> Void = { _ in }
    ) async -> (run: ObservedRun, outcome: JobOutcome)? {
        guard let run = await start(scenario, change), let outcome = await outcome(of: run, "\(scenario)") else {
            return nil
        }
        return (run, outcome)
    }

    /// Waits until a run is under way that goes on until it is cancelled.
    ///
    /// - Returns: Whether it goes on. If not, that is a finding.
    func isUnderWay(_ run: ObservedRun, _ title: String) async -> Bool {
        await isTrue(within: Self.timeToBegin) { run.end != nil || run.reports.latest != .init() }
        guard let end = run.end else { return true }
        findings.add("\(title): the run ended before it was cancelled: \(end)")
        return false
    }

    // MARK: Scenarios

    /// Checks what a scenario claims.
    func check(_ scenario: PluginConformance.Scenario) async {
        switch scenario.behaviour {
        case .ends(let expected): await check(scenario, endsAs: expected)
        case .answers: _ = await outcome(scenario)
        case .waits: await checkCancellation(scenario)
        case .reports(let expected): await check(scenario, reports: expected)
        case .givesTooMuch(let bytes): await check(scenario, keeps: bytes)
        case .logs(let text): await check(scenario, logs: text)
        case .echoes: await checkPayloads(scenario)
        case .describes(let withCheckpoint): await checkDescription(scenario, withCheckpoint: withCheckpoint)
        }
    }

    private func check(_ scenario: PluginConformance.Scenario, endsAs expected: JobOutcome) async {
        guard let first = await outcome(scenario)?.outcome else { return }
        if let difference = first.difference(from: expected) {
            findings.add("\(scenario): \(difference)")
            return
        }
        guard let name = first.failure?.name, let second = await outcome(scenario)?.outcome.failure else { return }
        findings.expect(
            second.name == name,
            "\(scenario): its failure is named '\(name.excerpt)' and then '\(second.name.excerpt)': no rule can match "
                + "a name that changes"
        )
    }

    private func check(_ scenario: PluginConformance.Scenario, reports expected: RunReports.Values) async {
        guard let (run, outcome) = await outcome(scenario) else { return }
        check(run, outcome, scenario, reports: expected)
    }

    func check(
        _ run: ObservedRun,
        _ outcome: JobOutcome,
        _ scenario: PluginConformance.Scenario,
        reports expected: RunReports.Values
    ) {
        findings.expect(
            outcome.outcomeClass == .succeeded,
            "\(scenario): it ended as \(outcome.summary), not as succeeded"
        )
        let latest = run.reports.latest
        findings.expect(
            latest.fraction == expected.fraction,
            "\(scenario): the fraction is \(latest.fraction.text), not \(expected.fraction.text)"
        )
        findings.expect(
            latest.note == expected.note,
            "\(scenario): the note is \(latest.note.text), not \(expected.note.text)"
        )
        findings.expect(
            JSONTokens.areEqual(latest.checkpoint, expected.checkpoint),
            "\(scenario): the checkpoint is \(latest.checkpoint.text), not \(expected.checkpoint.text)"
        )
    }

    private func check(_ scenario: PluginConformance.Scenario, keeps bytes: Int) async {
        guard let (_, outcome) = await outcome(scenario) else { return }
        guard case .succeeded(let result) = outcome else {
            findings.add("\(scenario): it ended as \(outcome.summary), not as succeeded")
            return
        }
        guard let result, let kept = JSONTokens.text(result) else {
            findings.add("\(scenario): the result is \(result.text), not a text of which the beginning is kept")
            return
        }
        findings.expect(
            (1...bytes).contains(kept.utf8.count),
            "\(scenario): \(kept.utf8.count) bytes of the result are kept, not 1 to \(bytes)"
        )
    }

    private func check(_ scenario: PluginConformance.Scenario, logs text: String) async {
        guard let (run, _) = await outcome(scenario) else { return }
        let isLogged = await isTrue(within: suite.patience) {
            run.log.lines.contains { $0.contains(text) && $0.contains("job=\(run.job.id)") }
        }
        findings.expect(isLogged, "\(scenario): no line with '\(text.excerpt)' and the job's id was logged")
    }
}

extension Optional {
    /// The value, for a message.
    var text: String { map { "\($0)".excerpt } ?? "none" }
}
