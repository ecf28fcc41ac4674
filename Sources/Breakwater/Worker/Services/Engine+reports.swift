import Logging

extension Engine {
    /// Logs and counts what the consumer reports.
    func report(_ report: Consumer.Report) {
        switch report {
        case .leaseInDoubt(let cancelled):
            metrics.leaseLost()
            health.record(holdsLease: false)
            logger.error(
                "no heartbeat was answered for three quarters of the lease; cancelling what runs",
                metadata: ["cancelled": .stringConvertible(cancelled)]
            )
        case .leaseRegained:
            logger.notice("heartbeats are answered again, and the worker still has its jobs")
        case .reconciled(let jobs):
            metrics.reconciled(jobs)
            logger.warning(
                "gave back jobs whose claim was never answered",
                metadata: ["jobs": .stringConvertible(jobs)]
            )
        case .unresponsive(let run):
            metrics.ignoredCancellation(kind: run.job.kind)
            logger.warning("a handler goes on after it was cancelled", metadata: run.metadata(at: clock.now))
        case .gaveUp(let run):
            logger.error(
                "a handler still ignores its cancellation; its slot is given to other jobs",
                metadata: run.metadata(at: clock.now)
            )
        case .cannotRecord(let run, let error):
            logger.error(
                "the outcome of a job cannot be recorded",
                metadata: [
                    "job": .stringConvertible(run.id), "outcome": "\(run.ending.outcomeClass)", "error": "\(error)",
                ]
            )
        case .unreadable(let jobs):
            logger.error(
                "jobs that cannot be read kept claims from being answered; they are dead letters now",
                metadata: ["job_ids": .array(jobs.map { .stringConvertible($0) })]
            )
        case .cancelled(let jobs):
            for job in jobs { logger.info("cancels a job because a user asked for it", metadata: job.metadata()) }
        case .suspects(let jobs):
            for job in jobs {
                logger.notice("runs a job apart from others that may have killed its workers", metadata: job.metadata())
            }
        }
    }
}

extension HeldJobs.Running {
    fileprivate func metadata(at now: MonotonicClock.Instant) -> Logger.Metadata {
        var metadata = job.metadata()
        if let cancelReason { metadata["cancelled_for"] = "\(cancelReason)" }
        if let cancelledAt {
            metadata["cancelled_seconds_ago"] = .stringConvertible((now - cancelledAt).components.seconds)
        }
        return metadata
    }
}
