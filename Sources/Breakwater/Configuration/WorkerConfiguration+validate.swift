extension WorkerConfiguration {
    /// Refuses settings that cannot work, whoever made them.
    ///
    /// - Throws: ``BreakwaterError`` with the code `invalidConfiguration`, naming every setting at fault.
    public func validate() throws(BreakwaterError) {
        var faults: [String] = []
        func require(_ isMet: Bool, _ fault: String) {
            if !isMet { faults.append(fault) }
        }
        require(concurrency >= 1, "concurrency is \(concurrency); it must be at least 1")
        require(lease >= .seconds(1), "lease is \(lease); it must be at least 1 second")
        require(shutdownGrace >= .zero, "shutdown_grace is \(shutdownGrace); it must not be negative")
        require(pollInterval >= .milliseconds(10), "poll_interval is \(pollInterval); it must be at least 10 ms")
        require(!queues.isEmpty, "queues is empty; leave it out for 'default'")
        require(!handlers.isEmpty, "there are no handlers: nothing to run")
        require(Set(queues).count == queues.count, "queues names a queue twice")
        require(Set(handlers.map(\.kind)).count == handlers.count, "a kind has two handlers")
        for queue in queues {
            require((1...200).contains(queue.utf8.count), "the queue '\(queue)' must have 1 to 200 bytes")
        }
        for handler in handlers {
            for fault in handler.settings.faults { faults.append("handlers.\(handler.kind).\(fault)") }
            require((1...200).contains(handler.kind.utf8.count), "the kind '\(handler.kind)' must have 1 to 200 bytes")
        }
        if !faults.isEmpty { throw BreakwaterError(.invalidConfiguration, faults.joined(separator: "\n")) }
    }
}

extension HandlerSettings {
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

        if let rate = circuit.failureRate {
            require(rate > 0 && rate <= 1, "circuit.failure_rate is \(rate); it must be above 0% and at most 100%")
        }
        if let failures = circuit.consecutiveFailures {
            require(failures >= 1, "circuit.consecutive_failures is \(failures); it must be at least 1")
        }
        switch circuit.window {
        case .time(let time): require(time >= .seconds(1), "circuit.window is \(time); it must be at least 1 second")
        case .calls(let calls):
            require((1...10_000).contains(calls), "circuit.window is \(calls) calls; it must be 1 to 10000")
            require(
                circuit.minimumCalls <= calls,
                "circuit.minimum_calls is \(circuit.minimumCalls); the window of \(calls) calls never holds so many"
            )
        }
        require(
            circuit.slowRate > 0 && circuit.slowRate <= 1,
            "circuit.slow_rate is \(circuit.slowRate); it must be above 0% and at most 100%"
        )
        if let slow = circuit.slowCall {
            require(slow > .zero && slow < timeout, "circuit.slow_call is \(slow); it must be below the timeout")
        }
        if let time = circuit.halfOpenFor {
            require(time >= .seconds(1), "circuit.half_open_for is \(time); it must be at least 1 second")
        }
        require(circuit.ramp >= .zero, "circuit.ramp is \(circuit.ramp); it must not be negative")
        switch circuit.key {
        case nil: break
        case .path(let path): require(!path.isEmpty, "circuit.key is an empty path")
        case .shared(let name):
            require((1...200).contains(name.utf8.count), "circuit.key '\(name)' must have 1 to 200 bytes")
        }
        if let budget = retry.budget {
            require(budget >= 0 && budget.isFinite, "retry.budget is \(budget); it must not be negative")
        }
        if let age = retry.maxAge { require(age > .zero, "retry.max_age is \(age); it must be more than nothing") }
        require(circuit.minimumCalls >= 1, "circuit.minimum_calls is \(circuit.minimumCalls); it must be at least 1")
        require(circuit.openFor > .zero, "circuit.open_for is \(circuit.openFor); it must be more than nothing")
        require(
            circuit.openCap >= circuit.openFor,
            "circuit.open_cap is \(circuit.openCap); it must not be below open_for"
        )
        require(
            circuit.openFactor >= 1 && circuit.openFactor.isFinite,
            "circuit.open_factor is \(circuit.openFactor); it must be at least 1"
        )
        require(circuit.probes >= 1, "circuit.probes is \(circuit.probes); it must be at least 1")
        require(
            circuit.successesToClose >= 1,
            "circuit.successes_to_close is \(circuit.successesToClose); it must be at least 1"
        )
        return faults
    }
}
