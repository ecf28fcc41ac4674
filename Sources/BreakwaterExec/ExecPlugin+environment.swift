import Breakwater

extension ExecPlugin {
    /// The variables that describe the job to the program.
    func jobEnvironment(_ job: Job, context: JobContext) -> [String: String] {
        var environment = [
            "BREAKWATER_JOB_ID": String(job.id),
            "BREAKWATER_KIND": job.kind,
            "BREAKWATER_QUEUE": job.queue,
            "BREAKWATER_ATTEMPT": String(job.attempt),
            "BREAKWATER_MAX_ATTEMPTS": String(job.maxAttempts),
            "BREAKWATER_DEADLINE": context.deadlineText,
            "BREAKWATER_IDEMPOTENCY_KEY": job.idempotencyKey,
        ]
        environment["TRACEPARENT"] = job.traceparent
        environment["TRACESTATE"] = job.tracestate
        // At most 64 KiB, and Linux takes 128 KiB for one variable.
        environment["BREAKWATER_CHECKPOINT"] = job.checkpoint
        if reportsProgress { environment["BREAKWATER_PROGRESS_FD"] = "3" }
        // NULs are removed, because a NUL would end the value early.
        return environment.mapValues { String($0.unicodeScalars.filter { $0 != "\0" }.map(Character.init)) }
    }
}
