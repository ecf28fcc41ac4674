extension WorkerConfiguration {
    /// Refuses settings that cannot work, wherever they come from.
    ///
    /// - Throws: ``BreakwaterError`` with the code `invalidConfiguration`, naming every setting at fault.
    public func validate() throws(BreakwaterError) {
        var faults: [String] = []
        func require(_ isMet: Bool, _ fault: String) {
            if !isMet { faults.append(fault) }
        }
        require(concurrency >= 1, "concurrency is \(concurrency); it must be at least 1")
        require(lease >= .seconds(1), "lease is \(lease); it must be at least 1 second")
        for (key, duration) in [("lease", lease), ("shutdown_grace", shutdownGrace), ("poll_interval", pollInterval)] {
            require(duration <= HandlerSettings.longestDuration, "\(key) is \(duration); it must be at most 100 years")
        }
        require(shutdownGrace >= .zero, "shutdown_grace is \(shutdownGrace); it must not be negative")
        require(pollInterval >= .milliseconds(10), "poll_interval is \(pollInterval); it must be at least 10 ms")
        require(!queues.isEmpty, "queues is empty; leave it out for 'default'")
        require(!handlers.isEmpty, "there are no handlers: nothing to run")
        require(Set(queues).count == queues.count, "queues names a queue twice")
        require(Set(handlers.map(\.kind)).count == handlers.count, "a kind has two handlers")
        for queue in queues {
            require(queue.isName, "the queue '\(queue)' must have 1 to 200 bytes, without control characters")
        }
        for handler in handlers {
            for fault in handler.settings.faults { faults.append("handlers.\(handler.kind).\(fault)") }
            require(
                handler.kind.isName,
                "the kind '\(handler.kind)' must have 1 to 200 bytes, without control characters"
            )
        }
        if !faults.isEmpty { throw BreakwaterError(.invalidConfiguration, faults.joined(separator: "\n")) }
    }
}

extension HandlerSettings {
    /// No duration is longer than this, so that adding it to a time stays within what clocks and the database can hold.
    static let longestDuration = Duration.seconds(100 * 365 * 86_400)

    /// What cannot work in these settings, each with its key, its value and what is allowed.
    var faults: [String] {
        var faults: [String] = []
        func require(_ isMet: Bool, _ fault: String) {
            if !isMet { faults.append(fault) }
        }
        if let concurrency { require(concurrency >= 1, "concurrency is \(concurrency); it must be at least 1") }
        require(timeout > .zero, "timeout is \(timeout); it must be more than nothing")
        require(keepResults >= .zero, "keep_results is \(keepResults); it must not be negative")

        require(retry.maxAttempts >= 1, "retry.max_attempts is \(retry.maxAttempts); it must be at least 1")
        require(retry.base >= .zero, "retry.base is \(retry.base); it must not be negative")
        require(retry.cap >= retry.base, "retry.cap is \(retry.cap); it must not be below retry.base")
        require(retry.factor >= 1 && retry.factor.isFinite, "retry.factor is \(retry.factor); it must be at least 1")

        if let budget = retry.budget {
            require(budget >= 0 && budget.isFinite, "retry.budget is \(budget); it must not be negative")
        }
        if let age = retry.maxAge { require(age > .zero, "retry.max_age is \(age); it must be more than nothing") }
        if let slow = circuit.slowCall {
            require(slow < timeout, "circuit.slow_call is \(slow); it must be below the timeout")
        }
        let durations = [
            ("timeout", timeout), ("keep_results", keepResults), ("retry.base", retry.base), ("retry.cap", retry.cap),
            ("retry.max_age", retry.maxAge), ("circuit.half_open_for", circuit.halfOpenFor),
            ("circuit.ramp", circuit.ramp),
        ]
        for case (let key, let duration?) in durations {
            require(duration <= Self.longestDuration, "\(key) is \(duration); it must be at most 100 years")
        }
        faults += circuit.faults.map { "circuit.\($0)" }
        return faults
    }
}
