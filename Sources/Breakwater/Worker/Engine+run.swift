import Logging

extension Engine {
    /// Runs one job that the dispatcher has started, and hands its end to the claim loop; then, in the same task, what its
    /// slot is given next, until there is nothing.
    func run(_ first: Job, deadline: ContinuousClock.Instant) async {
        var next: (job: Job, deadline: ContinuousClock.Instant)? = (first, deadline)
        while let (job, deadline) = next {
            next = end(job, await outcome(of: job, deadline: deadline))
        }
    }

    private func outcome(of job: Job, deadline: ContinuousClock.Instant) async -> JobOutcome {
        guard let tracer else { return await perform(job, deadline: deadline) }
        return await tracer.run(job) { job in
            let outcome = await perform(job, deadline: deadline)
            // As it will be judged once it has ended.
            let (reason, timeout) = withState { state in
                (
                    state.dispatcher.running[Dispatcher.RunKey(id: job.id, lease: job.lease)]?.cancelReason,
                    state.dispatcher.settings(of: job.kind)?.timeout ?? .zero
                )
            }
            return outcome.judged(for: reason, timeout: timeout)
        }
    }

    private func perform(_ job: Job, deadline: ContinuousClock.Instant) async -> JobOutcome {
        guard let plugin = plugins[job.kind] else { return .released }
        do {
            return try await plugin.run(
                job,
                context: JobContext(job: job, deadline: deadline, logger: loggers.handlers)
            )
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
    /// - Returns: The job that the same task runs next.
    private func end(_ job: Job, _ outcome: JobOutcome) -> (job: Job, deadline: ContinuousClock.Instant)? {
        let now = ContinuousClock.now
        let key = Dispatcher.RunKey(id: job.id, lease: job.lease)
        var ending: FinishedRun.Ending?
        var next: (job: Job, deadline: ContinuousClock.Instant)?
        var isFirst = true
        var runTime = Duration.zero
        withState { state in
            guard let run = state.dispatcher.ended(key), let settings = state.dispatcher.settings(of: job.kind) else {
                return
            }
            let judged = outcome.judged(for: run.cancelReason, timeout: settings.timeout)
            let recorded = FinishedRun.Ending(judged, of: job, duration: now - run.start, settings: settings)
            ending = recorded
            runTime = now - run.start
            isFirst = !state.dispatcher.hasFinished
            state.dispatcher.finish(job, recorded, startedAt: run.start)
            // A task that was cancelled, or is about to be, would carry that over.
            guard run.cancelReason == nil, let task = run.task else { return }
            next = state.dispatcher.startable(at: now, atMost: 1).first.map { job in
                state.dispatcher.started(Dispatcher.RunKey(id: job.id, lease: job.lease), as: task)
                return (job, now + (state.dispatcher.settings(of: job.kind)?.timeout ?? .zero))
            }
        }
        if let ending { log(ending, of: job, after: runTime) }
        if next == nil { startJobs() }
        // Whoever finished something earlier that still waits has raised it.
        if isFirst { work.raise() }
        return next
    }

    private func log(_ ending: FinishedRun.Ending, of job: Job, after runTime: Duration) {
        guard let failure = ending.failure else {
            loggers.jobs.debug(
                "job ended",
                metadata: job.metadata(with: [
                    "outcome": "\(ending.className)", "run_seconds": .stringConvertible(runTime.inSeconds),
                ])
            )
            return
        }
        loggers.jobs.info(
            "job failed",
            metadata: job.metadata(with: [
                "outcome": "\(ending.className)", "run_seconds": .stringConvertible(runTime.inSeconds),
                "error": "\(failure.name)", "message": "\(failure.message)",
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
