import Logging

extension Engine {
    /// A task that runs one job after another lets others have its thread after so long, so that thousands of short runs
    /// delay neither the loops nor each other.
    private static let turn = Duration.microseconds(200)

    /// Runs one job that the dispatcher has started, and hands its end to the claim loop; then, in the same task, what its
    /// slot is given next, until there is nothing.
    func run(_ first: Job, startedAt: ContinuousClock.Instant) async {
        var next: (job: Job, start: ContinuousClock.Instant)? = (first, startedAt)
        var turn = ContinuousClock.now
        // Until a task has its thread, and when it gets it back, any time may have passed, the lease's end included.
        var hasWaited = true
        while let (job, start) = next {
            // The dispatcher starts no other kinds than those it has handlers for.
            guard let handler = handlers[job.kind] else { return }
            let key = Dispatcher.RunKey(id: job.id, lease: job.lease)
            let mayBegin = !hasWaited || withState { $0.dispatcher.mayBegin(key, at: .now) }
            let outcome = mayBegin ? await outcome(of: job, startedAt: start, handler) : .released
            let now = ContinuousClock.now
            next = end(job, startedAt: start, outcome, at: now, handler.settings)
            hasWaited = next != nil && now - turn > Self.turn
            if hasWaited {
                await Task.yield()
                turn = .now
            }
        }
    }

    private func outcome(of claimed: Job, startedAt: ContinuousClock.Instant, _ handler: Handler) async -> JobOutcome {
        var job = claimed
        job.takePayload()
        guard let tracer else { return await perform(job, startedAt: startedAt, handler) }
        return await tracer.run(job) { job in
            let outcome = await perform(job, startedAt: startedAt, handler)
            // As it will be judged once it has ended.
            let key = Dispatcher.RunKey(id: job.id, lease: job.lease)
            let reason = withState { $0.dispatcher.running[key]?.cancelReason }
            return outcome.judged(for: reason, timeout: handler.settings.timeout)
        }
    }

    private func perform(_ job: Job, startedAt: ContinuousClock.Instant, _ handler: Handler) async -> JobOutcome {
        let context = JobContext(
            job: job,
            deadline: startedAt + handler.settings.timeout,
            logger: loggers.handlers
        )
        do {
            return try await handler.plugin.run(job, context: context)
        } catch let failure as JobFailure {
            return .failed(failure)
        } catch let refusal as CircuitOpenError {
            return refusal.outcome
        } catch {
            return .failed(JobFailure("\(type(of: error))", "\(error)"))
        }
    }

    /// Records the end of a run.
    ///
    /// - Returns: The job that the same task runs next, and when it started.
    private func end(
        _ job: Job,
        startedAt start: ContinuousClock.Instant,
        _ outcome: JobOutcome,
        at now: ContinuousClock.Instant,
        _ settings: HandlerSettings
    ) -> (job: Job, start: ContinuousClock.Instant)? {
        let key = Dispatcher.RunKey(id: job.id, lease: job.lease)
        let duration = now - start
        let waited = Int64(max(0, min(job.waited, 1e9)) * 1e9) + (start - job.claimedAt).nanoseconds
        let times = FinishedRun.Times(run: duration.nanoseconds, wait: waited)
        // A success is one whatever else happened: no need to judge it while others wait for the lock.
        var ending: FinishedRun.Ending?
        if case .succeeded = outcome {
            ending = FinishedRun.Ending(outcome, of: job, duration: duration, settings: settings)
        }
        var next: (job: Job, start: ContinuousClock.Instant)?
        var isFirst = true
        var isKnown = false
        withState { state in
            guard let run = state.dispatcher.ended(key) else { return }
            isKnown = true
            let recorded =
                ending
                ?? FinishedRun.Ending(
                    outcome.judged(for: run.cancelReason, timeout: settings.timeout),
                    of: job,
                    duration: duration,
                    settings: settings
                )
            ending = recorded
            isFirst = !state.dispatcher.hasFinished
            state.dispatcher.finish(job, recorded, times)
            // A task that was cancelled, or is about to be, would carry that over.
            guard run.cancelReason == nil, let task = run.task else { return }
            next = state.dispatcher.nextStartable(at: now).map { job in
                state.dispatcher.started(Dispatcher.RunKey(id: job.id, lease: job.lease), as: task)
                return (job, now)
            }
        }
        if let ending, isKnown { log(ending, of: job, after: duration) }
        if next == nil { startJobs() }
        // Whoever finished something earlier that still waits has raised it.
        if isFirst { work.raise() }
        return next
    }

    private func log(_ ending: FinishedRun.Ending, of job: Job, after duration: Duration) {
        guard let failure = ending.failure else {
            loggers.jobs.debug(
                "job ended",
                metadata: job.metadata(with: [
                    "outcome": "\(ending.className)", "run_seconds": .stringConvertible(duration.inSeconds),
                ])
            )
            return
        }
        loggers.jobs.info(
            "job failed",
            metadata: job.metadata(with: [
                "outcome": "\(ending.className)", "run_seconds": .stringConvertible(duration.inSeconds),
                "error": "\(failure.name)",
                "message": "\(PayloadRedaction(payload: job.payload).applied(to: failure.message))",
            ])
        )
    }
}

extension JobOutcome {
    /// What an outcome means after its run was cancelled: work that was done counts, whatever came then; anything else is
    /// the cancellation's doing.
    func judged(for reason: Dispatcher.CancelReason?, timeout: Duration) -> JobOutcome {
        if case .succeeded = self { return self }
        return switch reason {
        case nil: self
        case .timeout: .failed(JobFailure("timeout", "it ran for longer than \(timeout) and was cancelled"))
        case .shutdown, .leaseLost: .released
        }
    }
}

extension Job {
    /// The keys that every log line about a job carries.
    func metadata(with more: Logger.Metadata = [:]) -> Logger.Metadata {
        var metadata = more
        metadata["job"] = .stringConvertible(id)
        metadata["kind"] = "\(kind)"
        metadata["queue"] = "\(queue)"
        metadata["attempt"] = .stringConvertible(attempt)
        return metadata
    }
}
