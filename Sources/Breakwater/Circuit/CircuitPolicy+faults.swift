extension CircuitPolicy {
    /// What cannot work in this policy, each with its key, its value and what is allowed.
    var faults: [String] {
        var faults: [String] = []
        let most = 1...1_000_000
        func require(_ isMet: Bool, _ fault: String) {
            if !isMet { faults.append(fault) }
        }
        if let rate = failureRate {
            require(rate > 0 && rate <= 1, "failure_rate is \(rate); it must be above 0% and at most 100%")
        }
        require(slowRate > 0 && slowRate <= 1, "slow_rate is \(slowRate); it must be above 0% and at most 100%")
        if let slowCall { require(slowCall > .zero, "slow_call is \(slowCall); it must be more than nothing") }
        if let failures = consecutiveFailures {
            require(most.contains(failures), "consecutive_failures is \(failures); it must be 1 to \(most.upperBound)")
        }
        require(most.contains(minimumCalls), "minimum_calls is \(minimumCalls); it must be 1 to \(most.upperBound)")
        switch window {
        case .time(let time):
            require(
                time >= .seconds(1) && time <= Self.longestWindow,
                "window is \(time); it must be 1 second to 1 day"
            )
        case .calls(let calls):
            require((1...10_000).contains(calls), "window is \(calls) calls; it must be 1 to 10000")
            require(
                minimumCalls <= max(1, calls),
                "minimum_calls is \(minimumCalls); the window of \(calls) calls never holds so many"
            )
        }
        require(openFor > .zero, "open_for is \(openFor); it must be more than nothing")
        require(openCap >= openFor, "open_cap is \(openCap); it must not be below open_for")
        require(openCap <= Self.longestOpenCap, "open_cap is \(openCap); it must be at most a year")
        require((1...1000).contains(openFactor), "open_factor is \(openFactor); it must be 1 to 1000")
        require((1...10_000).contains(probes), "probes is \(probes); it must be 1 to 10000")
        require(
            (1...10_000).contains(successesToClose),
            "successes_to_close is \(successesToClose); it must be 1 to 10000"
        )
        if let time = halfOpenFor {
            require(time >= .seconds(1), "half_open_for is \(time); it must be at least 1 second")
        }
        require(ramp >= .zero, "ramp is \(ramp); it must not be negative")
        switch key {
        case nil: break
        case .path(let path): require(!path.isEmpty, "key is an empty path")
        case .shared(let name):
            require((1...200).contains(name.utf8.count), "key '\(name)' must have 1 to 200 bytes")
        }
        switch fallback {
        case .hold, .deadLetter: break
        case .succeed(let result):
            require(
                JobResult.isStorable(result),
                "fallback.succeed is '\(result)'; it must be one JSON value that Postgres can store"
            )
        case .reroute(let kind):
            require(
                kind.isName,
                "fallback.reroute is '\(kind)'; it must have 1 to 200 bytes, without control characters"
            )
        }
        return faults
    }

    /// Tallies of twice the longest window are kept.
    private static let longestWindow = Duration.seconds(86_400)
    private static let longestOpenCap = Duration.seconds(366 * 86_400)
}
