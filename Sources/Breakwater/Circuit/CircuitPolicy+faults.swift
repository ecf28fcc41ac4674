extension CircuitPolicy {
    /// The invalid settings of this policy, each with its key, its value and what is allowed.
    var faults: [String] {
        var faults = SettingFaults()
        faults.checkShare("failure_rate", failureRate)
        faults.checkShare("slow_rate", slowRate)
        faults.check("slow_call", slowCall, SettingLimits.slowCall)
        faults.check("consecutive_failures", consecutiveFailures, SettingLimits.calls)
        faults.check("minimum_calls", minimumCalls, SettingLimits.calls)
        switch window {
        case .time(let time): faults.check("window", time, SettingLimits.window)
        case .calls(let calls):
            let limits = SettingLimits.windowCalls
            faults.require(
                limits.contains(calls),
                "window is \(calls) calls; it must be \(limits.lowerBound) to \(limits.upperBound)"
            )
            faults.require(
                minimumCalls <= max(1, calls),
                "minimum_calls is \(minimumCalls); the window of \(calls) calls never holds that many"
            )
        }
        faults.check("open_for", openFor, SettingLimits.openTime)
        faults.require(openCap >= openFor, "open_cap is \(openCap); it must not be below open_for")
        faults.check("open_cap", openCap, SettingLimits.openTime)
        faults.check("open_factor", openFactor, SettingLimits.openFactor)
        faults.check("probes", probes, SettingLimits.probes)
        faults.check("successes_to_close", successesToClose, SettingLimits.probes)
        faults.check("half_open_for", halfOpenFor, SettingLimits.halfOpenFor)
        faults.check("ramp", ramp, SettingLimits.ramp)
        switch key {
        case nil: break
        case .path(let path): faults.require(!path.isEmpty, "key is an empty path")
        case .shared(let name):
            faults.require(SettingLimits.nameBytes.contains(name.utf8.count), "key '\(name)' must have 1 to 200 bytes")
        }
        switch fallback {
        case .hold, .deadLetter: break
        case .succeed(let result):
            faults.require(
                JobResult.isStorable(result),
                "fallback.succeed is '\(result)'; it must be one JSON value that Postgres can store"
            )
        case .reroute(let kind):
            faults.require(
                kind.isName,
                "fallback.reroute is '\(kind)'; it must have 1 to 200 bytes, without control characters"
            )
        }
        return faults.faults
    }
}
