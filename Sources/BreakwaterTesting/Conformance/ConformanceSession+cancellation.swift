import Breakwater

extension ConformanceSession {
    /// Checks a run that goes on until it is cancelled.
    func checkCancellation(_ scenario: PluginConformance.Scenario) async {
        await checkAlone(scenario)
        await checkBefore(scenario)
        await checkAtDeadline(scenario)
        await checkBesideAnother(scenario)
    }

    private func checkAlone(_ scenario: PluginConformance.Scenario) async {
        guard let run = await start(scenario), await isUnderWay(run, "\(scenario)") else { return }
        run.cancel()
        await expectCancelled(run, "\(scenario), cancelled")
    }

    private func checkBefore(_ scenario: PluginConformance.Scenario) async {
        guard let run = await start(scenario, isCancelled: true) else { return }
        await expectCancelled(run, "\(scenario), cancelled before it began")
    }

    /// A plugin may end a run a little before its deadline, with a failure that says so. The worker cancels it then.
    private func checkAtDeadline(_ scenario: PluginConformance.Scenario) async {
        let title = "\(scenario), at its deadline"
        let time = Duration.seconds(1)
        guard let run = await start(scenario, deadline: time) else { return }
        await isTrue(within: time) { run.end != nil }
        run.cancel()
        switch await run.end(within: suite.patience) {
        case nil: findings.add("\(title): the run had not ended \(suite.patience) after its deadline")
        case .cancellation: break
        case .error(let error): expectRules(JobOutcome(of: error), title)
        case .outcome(let outcome): expectRules(outcome, title)
        }
    }

    private func expectRules(_ outcome: JobOutcome, _ title: String) {
        for fault in outcome.faults { findings.add("\(title): \(fault)") }
        // The job does take too long, so these would hide it.
        switch outcome {
        case .discarded, .snoozed, .throttled, .unable: findings.add("\(title): it ended as \(outcome.summary)")
        case .succeeded, .failed, .unavailable, .released: break
        }
    }

    private func checkBesideAnother(_ scenario: PluginConformance.Scenario) async {
        guard suite.mayRunTwice(plugin), let other = await start(scenario), let run = await start(scenario) else {
            return
        }
        let title = "\(scenario), beside another"
        guard await isUnderWay(run, title), await isUnderWay(other, title) else { return }
        run.cancel()
        await expectCancelled(run, title)
        // An end that the cancellation has caused comes soon after it.
        await isTrue(within: .milliseconds(100)) { other.end != nil }
        if let end = other.end { findings.add("\(title): the run ended when another was cancelled: \(end)") }
        other.cancel()
        await expectCancelled(other, title)
    }

    /// Waits for the end of a cancelled run, and checks how it ended.
    func expectCancelled(_ run: ObservedRun, _ title: String) async {
        switch await run.end(within: suite.patience) {
        case nil: findings.add("\(title): the run had not ended \(suite.patience) after its cancellation")
        case .cancellation, .outcome(.succeeded), .outcome(.released): break
        case .error(let error):
            findings.add("\(title): the run threw \(error), not CancellationError")
        case .outcome(let outcome):
            findings.add(
                "\(title): the run ended as \(outcome.summary); a cancelled run throws CancellationError, or returns "
                    + "released, or succeeded if its work is done"
            )
        }
    }
}

extension PluginConformance {
    /// Whether the plugin runs two jobs at once.
    func mayRunTwice(_ plugin: any HandlerPlugin) -> Bool { (plugin.capacity ?? .max) >= 2 }
}
