import Logging

extension Engine {
    /// Runs one job that the dispatcher has started, and hands its end to the claim loop.
    func run(_ job: Job) async {
        let key = Dispatcher.RunKey(id: job.id, lease: job.lease)
        guard let plugin = plugins[job.kind], let deadline = withState({ $0.dispatcher.running[key]?.deadline }) else {
            return
        }
        var outcome: JobOutcome
        do {
            outcome = try await plugin.run(job, context: JobContext(job: job, deadline: deadline, logger: logger))
        } catch let failure as JobFailure {
            outcome = .failed(failure)
        } catch let refusal as CircuitOpenError {
            outcome = refusal.outcome
        } catch {
            outcome = .failed(JobFailure("\(type(of: error))", "\(error)"))
        }

        let ending: FinishedRun.Ending? = withState { state in
            guard let run = state.dispatcher.ended(key), let settings = state.dispatcher.settings(of: job.kind) else {
                return nil
            }
            outcome = outcome.judged(for: run.cancelReason, timeout: settings.timeout)
            let ending = FinishedRun.Ending(outcome, of: job, duration: .now - run.start, settings: settings)
            state.dispatcher.finish(job, ending)
            return ending
        }
        if let ending { log(ending, of: job) }
        startJobs()
        work.raise()
    }

    private func log(_ ending: FinishedRun.Ending, of job: Job) {
        guard let failure = ending.failure else {
            logger.debug("job ended", metadata: job.metadata(with: ["outcome": "\(ending.className)"]))
            return
        }
        logger.info(
            "job failed",
            metadata: job.metadata(with: [
                "outcome": "\(ending.className)", "error": "\(failure.name)", "message": "\(failure.message)",
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
        metadata["job"] = "\(id)"
        metadata["kind"] = "\(kind)"
        metadata["queue"] = "\(queue)"
        metadata["attempt"] = "\(attempt)"
        return metadata
    }
}
