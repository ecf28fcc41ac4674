import Breakwater

extension ConformanceSession {
    /// Checks a run that comes after the stop, which can only happen by a mistake of the caller.
    func checkAfterStop(_ scenarios: [PluginConformance.Scenario]) async {
        guard let scenario = scenarios.first(where: \.succeeds), let run = await start(scenario),
            let outcome = await outcome(of: run, "\(scenario), after the stop")
        else { return }
        switch outcome {
        case .succeeded, .released, .unable: break
        case .failed, .unavailable, .throttled, .discarded, .snoozed:
            findings.add(
                "\(scenario), after the stop: it ended as \(outcome.summary), which is not the job's fault; "
                    + "return released"
            )
        }
    }

    /// Runs each job once.
    func runAll() async {
        for scenario in suite.scenarios {
            guard let run = await start(scenario) else { return }
            if case .waits = scenario.behaviour {
                guard await isUnderWay(run, "\(scenario)") else { return }
                run.cancel()
            }
            // What is wrong with these ends was found before.
            _ = await run.end(within: suite.patience)
        }
    }
}

extension PluginConformance {
    /// How many sessions in a row must leave something behind, so that it counts. What a program makes once and keeps,
    /// such as a thread for all plugins, is made in the first sessions.
    private static let sessionsThatGrow = 4
    /// How long what ends after the stop may take.
    private static let longestSettling = Duration.seconds(10)

    /// Checks that nothing is left of the runs after the stop.
    func checkLeaks(_ findings: Findings) async {
        var figures = ProcessFigures()
        for session in 1...Self.sessionsThatGrow {
            var tokens: RunTokens?
            await findings.withSession(of: self) { session in
                tokens = session.tokens
                await session.runAll()
            }
            guard findings.all.isEmpty, let tokens else { return }
            await checkTokens(tokens, findings)
            guard isAlone, findings.all.isEmpty else { return }
            let last = figures
            await isTrue(within: min(patience, Self.longestSettling)) {
                figures = ProcessFigures()
                return !figures.exceeds(last)
            }
            guard figures.exceeds(last) else { return }
            if session == Self.sessionsThatGrow { findings.add(figures.description(since: last)) }
        }
    }

    private func checkTokens(_ tokens: RunTokens, _ findings: Findings) async {
        await isTrue(within: min(patience, Self.longestSettling)) { tokens.held == 0 }
        let held = tokens.held
        findings.expect(
            held == 0,
            "after the stop, \(held == 1 ? "1 run is" : "\(held) runs are") still held: by a task that a run started "
                + "and that goes on, or by a reference to a run's context"
        )
    }
}

extension PluginConformance.Scenario {
    fileprivate var succeeds: Bool {
        switch behaviour {
        case .ends(.succeeded), .echoes: true
        default: false
        }
    }
}
