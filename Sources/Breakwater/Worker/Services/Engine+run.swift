import Logging

extension Engine {
    /// How long a task that runs one job after another uses its thread before it yields, so that thousands of short
    /// runs delay neither the loops nor each other.
    private static let turn = Duration.microseconds(200)
    /// The same for runs that suspend while they wait, whose durations say nothing about the use of the thread.
    private static let runsInTurn = 32

    /// Runs one job that the consumer has started, and reports its end to the consumer. The same task then runs the
    /// next job for its slot, until there is none.
    func run(_ first: HeldJobs.Start) async {
        var next: HeldJobs.Start? = first
        var turn = clock.now
        var runs = 0
        // Any amount of time may pass before a task gets its thread, and the lease may end meanwhile.
        var hasWaited = true
        while let start = next {
            // The consumer only starts kinds for which there are handlers.
            guard let handler = handlers[start.job.kind] else { return }
            let mayBegin = !hasWaited || read { $0.mayBegin(start, at: clock.now) }
            let settlement = handler.settlesRuns ? settlement(of: start, handler) : nil
            let outcome = mayBegin ? await outcome(of: start, handler, settlement) : .released
            let now = clock.now
            next = end(start, outcome, at: now, handler, isSettled: settlement?.isCommitted ?? false)
            runs += 1
            hasWaited = next != nil && (handler.suspends ? runs % Self.runsInTurn == 0 : now - turn > Self.turn)
            if hasWaited {
                await Task.yield()
                turn = clock.now
            }
        }
    }

    /// Makes what a plugin needs to settle a run itself.
    private func settlement(of start: HeldJobs.Start, _ handler: Handler) -> RunSettlement {
        var job = start.job
        job.payload = ""
        return RunSettlement { [job] result in
            let duration = self.clock.now - start.time
            let ending = handler.successEnding(result: result, of: job, after: duration)
            var run = FinishedRun(job, ending)
            run.times = FinishedRun.Times(job, startedAt: start.time, duration)
            // The claim is closed by the next settle of the worker, which knows whether other jobs of it are left.
            return self.read { consumer in
                Settle(worker: consumer.worker, runs: [run], claims: [], measured: consumer.held.measure([run]))
            }
        }
    }

    private func outcome(
        of start: HeldJobs.Start,
        _ handler: Handler,
        _ settlement: RunSettlement?
    ) async -> JobOutcome {
        var job = start.job
        guard job.detachPayload() else {
            return .failed(JobFailure("payload.unreadable", "the payload is not valid UTF-8"))
        }
        let deadline = start.time + handler.timeout
        guard let tracer else { return await perform(job, until: deadline, handler, settlement) }
        return await tracer.run(job) { job in
            let outcome = await perform(job, until: deadline, handler, settlement)
            // The outcome is adjusted for a cancellation, as it will be when the run is recorded.
            let reason = read { consumer in
                consumer.held.slots[start.slot].flatMap { $0.serial == start.serial ? $0.cancelReason : nil }
            }
            return outcome.judged(for: reason, timeout: handler.timeout)
        }
    }

    private func perform(
        _ job: Job,
        until deadline: MonotonicClock.Instant,
        _ handler: Handler,
        _ settlement: RunSettlement?
    ) async -> JobOutcome {
        var context = JobContext(job: job, end: deadline, logger: loggers.handlers)
        context.reports = RunReports(of: RunKey(job), to: progress)
        context.settlement = settlement
        do {
            return try await handler.plugin.run(job, context: context)
        } catch {
            return JobOutcome(of: error)
        }
    }

    /// Records the end of a run.
    ///
    /// - Returns: The job that the same task runs next.
    private func end(
        _ start: HeldJobs.Start,
        _ outcome: JobOutcome,
        at now: MonotonicClock.Instant,
        _ handler: Handler,
        isSettled: Bool
    ) -> HeldJobs.Start? {
        let job = start.job
        let duration = now - start.time
        let times =
            metrics.isWanted || handler.isAdaptive ? FinishedRun.Times(job, startedAt: start.time, duration) : .init()
        // A success does not depend on a cancellation, so its ending can be made before the lock is taken.
        let isPlain = outcome.isSuccess && !handler.isNotable(successAfter: duration)
        var ending: FinishedRun.Ending?
        if outcome.isSuccess, !isPlain {
            ending = FinishedRun.Ending(outcome, of: job, duration: duration, settings: handler.settings)
        }
        // The reports of a success are of no more use.
        let report = progress.end(RunKey(job))
        if isSettled {
            var run = FinishedRun(job, ending)
            run.times = times
            recordSettled(run)
        }
        let (counts, next) = ended(start, times, at: now, isSettled: isSettled) { reason in
            if !isPlain, ending == nil {
                ending = FinishedRun.Ending(
                    outcome.judged(for: reason, timeout: handler.timeout),
                    of: job,
                    duration: duration,
                    settings: handler.settings
                )
                ending?.report = report
            }
            return ending
        }
        if counts, ending?.failure != nil || loggers.jobs.logLevel <= .debug {
            log(ending ?? .plainSuccess, of: job, after: duration)
        }
        return next
    }

    private func log(_ ending: FinishedRun.Ending, of job: Job, after duration: Duration) {
        guard let failure = ending.failure else {
            loggers.jobs.debug(
                "job ended",
                metadata: job.metadata(with: [
                    "outcome": "\(ending.outcomeClass)", "run_seconds": .seconds(duration),
                ])
            )
            return
        }
        loggers.jobs.info(
            "job failed",
            metadata: job.metadata(with: [
                "outcome": "\(ending.outcomeClass)", "run_seconds": .seconds(duration),
                "error": "\(failure.name)",
                "message": "\(PayloadRedaction(payload: job.payload).applied(to: failure.message))",
            ])
        )
    }
}

extension JobOutcome {
    /// The outcome after its run was cancelled. A success still counts. Any other outcome is attributed to the
    /// cancellation.
    func judged(for reason: HeldJobs.CancelReason?, timeout: Duration) -> JobOutcome {
        if isSuccess { return self }
        return switch reason {
        case nil: self
        case .timeout: .failed(JobFailure("timeout", "it ran for longer than \(timeout) and was cancelled"))
        case .shutdown, .leaseLost, .requested: .released
        }
    }
}

extension Job {
    /// The metadata of every log line about a job.
    func metadata(with more: Logger.Metadata = [:]) -> Logger.Metadata {
        var metadata = more
        metadata["job"] = .stringConvertible(id)
        metadata["kind"] = "\(kind)"
        metadata["queue"] = "\(queue)"
        metadata["attempt"] = .stringConvertible(attempt)
        return metadata
    }
}
