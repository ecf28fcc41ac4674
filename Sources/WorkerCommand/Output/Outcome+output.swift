import BreakwaterAdmin
import Foundation

extension Outcome {
    /// The outcome for programs.
    var json: JSONValue {
        .object([
            "at": .time(at),
            "outcome": .string(outcome),
            "kind": .string(kind),
            "queue": .string(queue),
            "job": job.map { .integer($0) } ?? .null,
            "jobs": .integer(Int64(jobs)),
            "attempt": .integer(orNull: attempt),
            "max_attempts": .integer(orNull: maxAttempts),
            "worker": .string(orNull: worker),
            "took_seconds": .seconds(took),
            "reason": .string(orNull: reason),
            "name": .string(orNull: name),
            "message": .string(orNull: message),
            "run_at": .time(runAt),
        ])
    }

    /// The outcome as a line for people.
    var line: String {
        guard let job else {
            return OutcomeLine.text(at: at, outcome: outcome, kind: kind, rest: "and \(jobs.groupedText) more jobs")
        }
        let failure = [name, message].compactMap(\.self).joined(separator: ": ")
        let facts: [String?] = [
            "job \(job)",
            reason,
            attempt.map { attempt in "attempt \(attempt)" + (maxAttempts.map { " of \($0)" } ?? "") },
            took.map { "took \($0.shortText)" },
            again,
            worker.map { "on \($0)" },
        ]
        let rest = facts.compactMap(\.self).joined(separator: ", ") + (failure.isEmpty ? "" : ": \(failure)")
        return OutcomeLine.text(at: at, outcome: outcome, kind: kind, rest: rest)
    }

    /// The text that says when the job runs again.
    private var again: String? {
        guard !["succeeded", "dead_letter"].contains(outcome) else { return nil }
        guard let runAt else { return "ready again" }
        return "again in \(Duration.seconds(max(0, min(runAt.timeIntervalSince(at), 1e9))).shortText)"
    }
}

extension RecordedTransition {
    /// The transition among outcomes, for programs.
    var outcomeJSON: JSONValue { .object([.init("outcome", "circuit")] + json.members) }

    /// The transition among outcomes, as a line for people.
    var outcomeLine: String {
        let states = "\(from) → \(to)".replacing("_", with: "-")
        let by = actor ?? workerName
        return OutcomeLine.text(
            at: at,
            outcome: "circuit",
            kind: circuitName,
            rest: "\(states): \(reason)" + (by.map { " (by \($0))" } ?? "")
        )
    }
}

/// One line of `worker tail`.
private enum OutcomeLine {
    static func text(at: Date, outcome: String, kind: String, rest: String) -> String {
        let time = at.timeText.dropFirst("2030-01-31T".count)
        let word = outcome.replacing("_", with: "-").padding(toLength: 11, withPad: " ", startingAt: 0)
        let name = kind.escapingControlCharacters
        let padding = String(repeating: " ", count: max(0, 20 - name.displayWidth))
        return "\(time)  \(word)  \(name)\(padding)  \(rest.escapingControlCharacters)"
    }
}
