import Breakwater
import Glibc

extension ExecPlugin {
    /// The inherited variables with the configured ones added. Configured variables take precedence.
    static func configuredEnvironment(
        _ configured: [String: String],
        inherit names: [String]
    ) throws -> [String: String] {
        var environment: [String: String] = [:]
        for name in names {
            try checkName(name)
            if let value = getenv(name) { environment[name] = String(cString: value) }
        }
        for (name, value) in configured {
            try checkName(name)
            guard !value.utf8.contains(0) else {
                throw ExecPluginError(.invalidEnvironment, "the value of the variable '\(name)' contains a NUL")
            }
            environment[name] = value
        }
        return environment
    }

    private static func checkName(_ name: String) throws {
        guard !name.isEmpty, !name.utf8.contains(0), !name.utf8.contains(UInt8(ascii: "=")) else {
            throw ExecPluginError(
                .invalidEnvironment,
                "\(name.debugDescription) cannot be a variable's name: it must not be empty nor contain '=' or NUL"
            )
        }
    }

    /// The variables that describe the job to the program.
    static func jobEnvironment(_ job: Job, context: JobContext) -> [String: String] {
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
        // NULs are removed, because a NUL would end the value early.
        return environment.mapValues { String($0.unicodeScalars.filter { $0 != "\0" }.map(Character.init)) }
    }
}
