import BreakwaterAdmin

extension JobStory {
    /// A JSON list with one object for each failed run.
    var errors: String {
        switch self {
        case .waitsOrRuns(let job): job.errors
        case .died(let letter): letter.errors
        case .succeeded: "[]"
        case .finished(let job): job.errors
        }
    }

    /// The job for programs. `state` is the state of a live job, or `dead_letter` or `succeeded`.
    var json: JSONValue {
        switch self {
        case .waitsOrRuns(let job): job.json
        case .died(let letter): letter.json(state: "dead_letter")
        case .succeeded(let success): success.json
        case .finished(let job): job.json
        }
    }

    /// The job for people, one fact a line.
    var details: [(name: String, value: String)] {
        switch self {
        case .waitsOrRuns(let job): job.details
        case .died(let letter): [("id", "\(letter.id)"), ("state", "dead letter")] + letter.details.dropFirst()
        case .succeeded(let success): success.details
        case .finished(let job): job.details
        }
    }
}

extension JobStatus {
    fileprivate var json: JSONValue {
        .object([
            "id": .integer(id),
            "state": .string(state),
            "why": .string(why),
            "kind": .string(kind),
            "queue": .string(queue),
            "priority": .integer(Int64(priority)),
            "attempt": .integer(Int64(attempt)),
            "max_attempts": .integer(orNull: maxAttempts),
            "unique_key": .string(orNull: uniqueKey),
            "enqueued_at": .time(enqueuedAt),
            "run_at": .time(runAt),
            "payload": .raw(payload),
            "errors": .raw(errors),
        ])
    }

    fileprivate var details: [(name: String, value: String)] {
        [
            ("id", "\(id)"), ("state", state.replacing("_", with: "-")), ("why", why), ("kind", kind), ("queue", queue),
            ("priority", "\(priority)"), ("attempts", maxAttempts.map { "\(attempt) of \($0)" } ?? "\(attempt)"),
            ("unique key", uniqueKey ?? "-"), ("enqueued", enqueuedAt.shortText),
        ] + (runAt.map { [("due", $0.shortText)] } ?? []) + [("payload", payload)]
    }
}

extension JobPlace {
    /// The facts that it adds to a job's story, for programs.
    var json: JSONValue {
        .object([
            "ready_at": .time(readyAt),
            "ahead": .integer(orNull: ahead),
            "workers": .integer(Int64(workers)),
            "workers_suspended": .integer(Int64(suspended)),
            "workers_draining": .integer(Int64(draining)),
            "crashes": .integer(Int64(crashes)),
            "traceparent": .string(orNull: traceparent),
        ])
    }

    /// The facts that it adds to a job's story, for people: the job's place in its lane, and the workers that could run
    /// it.
    var details: [(name: String, value: String)] {
        var details: [(name: String, value: String)] = []
        if let ahead {
            details.append(("ready since", readyAt.shortText))
            let jobs =
                ahead >= Self.mostAhead ? "\(ahead.groupedText) or more jobs" : ahead == 1 ? "1 job" : "\(ahead) jobs"
            details.append(("before it", "\(jobs) of its queue and kind"))
        }
        let limits = [(suspended, "suspended"), (draining, "draining")].filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }
        details.append(("workers", (["\(workers) alive"] + limits).joined(separator: ", ")))
        if crashes > 0 {
            details.append(("crashes", "its worker died \(crashes == 1 ? "once" : "\(crashes) times in a row")"))
        }
        if let traceparent { details.append(("trace", traceparent)) }
        return details
    }
}

extension JobSuccess {
    fileprivate var json: JSONValue {
        .object([
            "id": .integer(id),
            "state": "succeeded",
            "kind": .string(kind),
            "by_fallback": .bool(isByFallback),
            "finished_at": .time(finishedAt),
            "expires_at": .time(expiresAt),
            "result": result.map { .raw($0) } ?? .null,
        ])
    }

    fileprivate var details: [(name: String, value: String)] {
        [
            ("id", "\(id)"), ("state", isByFallback ? "succeeded, by its circuit's fallback" : "succeeded"),
            ("kind", kind), ("finished", finishedAt.shortText), ("kept until", expiresAt.shortText),
            ("result", result ?? "-"),
        ]
    }
}

extension FailedRun {
    /// Failed runs under headings.
    static func table(_ runs: [FailedRun]) -> Table {
        Table(
            columns: [.number("ATTEMPT"), .text("AT"), .text("CLASS"), .long("WORKER"), .long("ERROR")],
            rows: runs.map { run in
                [run.attempt.map { "\($0)" } ?? "", run.at?.shortText ?? "", run.className, run.worker, run.failure]
            }
        )
    }
}

extension Terminal {
    /// Prints a job's failed runs under a title, if there are any.
    static func write(_ runs: [FailedRun]) {
        guard !runs.isEmpty else { return }
        write("\nFAILED RUNS")
        write(FailedRun.table(runs))
    }
}
