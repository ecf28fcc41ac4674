import Breakwater

extension ExecPlugin {
    /// The variables that describe the job to the program.
    func jobEnvironment(_ job: Job, context: JobContext) -> [String: String] {
        var environment: [String: String] = [:]
        for (field, text) in context.fields(of: job) { environment[field.variable] = text.withoutNUL }
        if reportsProgress { environment["BREAKWATER_PROGRESS_FD"] = "3" }
        return environment
    }
}

extension JobField {
    /// The name of the variable.
    fileprivate var variable: String {
        switch self {
        case .id: "BREAKWATER_JOB_ID"
        case .kind: "BREAKWATER_KIND"
        case .queue: "BREAKWATER_QUEUE"
        case .attempt: "BREAKWATER_ATTEMPT"
        case .maxAttempts: "BREAKWATER_MAX_ATTEMPTS"
        case .deadline: "BREAKWATER_DEADLINE"
        case .idempotencyKey: "BREAKWATER_IDEMPOTENCY_KEY"
        case .traceparent: "TRACEPARENT"
        case .tracestate: "TRACESTATE"
        // It has at most 64 KiB, and Linux takes 128 KiB for one variable.
        case .checkpoint: "BREAKWATER_CHECKPOINT"
        }
    }
}

extension String {
    /// The text without NULs, because a NUL would end the value early.
    fileprivate var withoutNUL: String {
        utf8.contains(0) ? String(String.UnicodeScalarView(unicodeScalars.filter { $0 != "\0" })) : self
    }
}
