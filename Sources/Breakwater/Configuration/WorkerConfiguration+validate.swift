extension WorkerConfiguration {
    /// Refuses invalid settings, wherever they come from.
    ///
    /// - Throws: ``BreakwaterError`` with the code `invalidConfiguration`, which names every setting at fault.
    public func validate() throws(BreakwaterError) {
        var faults = SettingFaults()
        faults.check("concurrency", concurrency, SettingLimits.concurrency)
        faults.check("lease", lease, SettingLimits.lease)
        faults.check("shutdown_grace", shutdownGrace, SettingLimits.shutdownGrace)
        faults.check("poll_interval", pollInterval, SettingLimits.pollInterval)
        faults.require(!queues.isEmpty, "queues is empty; leave it out for 'default'")
        faults.require(!handlers.isEmpty, "there are no handlers: nothing to run")
        faults.require(Set(queues).count == queues.count, "queues names a queue twice")
        faults.require(Set(handlers.map(\.kind)).count == handlers.count, "a kind has two handlers")
        for queue in queues {
            faults.require(queue.isName, "the queue '\(queue)' must have 1 to 200 bytes, without control characters")
        }
        for handler in handlers {
            faults.add(handler.settings.faults, in: "handlers.\(handler.kind)")
            faults.require(
                handler.kind.isName,
                "the kind '\(handler.kind)' must have 1 to 200 bytes, without control characters"
            )
        }
        faults.require(Set(schedules.map(\.name)).count == schedules.count, "a schedule is given twice")
        for schedule in schedules {
            faults.add(schedule.faults, in: "schedules.\(schedule.name)")
            faults.require(
                schedule.name.isName,
                "the schedule '\(schedule.name)' must have a name of 1 to 200 bytes, without control characters"
            )
        }
        guard faults.faults.isEmpty else {
            throw BreakwaterError(.invalidConfiguration, faults.faults.joined(separator: "\n"))
        }
    }
}

extension HandlerSettings {
    /// The longest delay of a job. Added to a time, it stays within the range of the database.
    static let longestDuration = Duration.seconds(100 * 365 * 86_400)

    /// The invalid settings, each with its key, its value and what is allowed.
    var faults: [String] {
        var faults = SettingFaults()
        faults.check("concurrency", concurrency, SettingLimits.concurrency)
        faults.check("timeout", timeout, SettingLimits.timeout)
        faults.check("keep_results", keepResults, SettingLimits.keepResults)
        if let history { faults.add(history.faults, in: "history") }
        faults.check("retry.max_attempts", retry.maxAttempts, SettingLimits.maxAttempts)
        faults.check("retry.base", retry.base, SettingLimits.retryDelay)
        faults.check("retry.cap", retry.cap, SettingLimits.retryDelay)
        faults.require(retry.cap >= retry.base, "retry.cap is \(retry.cap); it must not be below retry.base")
        faults.check("retry.factor", retry.factor, SettingLimits.retryFactor)
        faults.check("retry.budget", retry.budget, SettingLimits.retryBudget)
        faults.check("retry.max_age", retry.maxAge, SettingLimits.maxAge)
        if let slow = circuit.slowCall {
            faults.require(slow < timeout, "circuit.slow_call is \(slow); it must be below the timeout")
        }
        faults.add(circuit.faults, in: "circuit")
        for (index, limit) in limits.enumerated() { faults.add(limit.faults, in: "limits[\(index)]") }
        faults.require(
            Set(limits.map { $0.fullName(of: "") }).count == limits.count,
            "limits has two limits of one name; give each a name of its own"
        )
        faults.check("adapt.min", adapt?.lowerBound, SettingLimits.limitedConcurrency)
        faults.check("adapt.max", adapt?.upperBound, SettingLimits.limitedConcurrency)
        faults.require(order?.key.isEmpty != true, "order has an empty key; it must name a value of the payload")
        faults.require(share?.isEmpty != true, "share is an empty path; it must name a value of the payload")
        return faults.faults
    }
}
