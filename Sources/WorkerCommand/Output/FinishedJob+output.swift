import BreakwaterAdmin
import Foundation

extension FinishedJob {
    /// The job for programs.
    var json: JSONValue {
        .object([
            "id": .integer(id),
            "state": .string(outcome),
            "reason": .string(orNull: reason),
            "kind": .string(kind),
            "queue": .string(queue),
            "priority": .integer(Int64(priority)),
            "attempt": .integer(Int64(attempt)),
            "key": .string(orNull: key),
            "unique_key": .string(orNull: uniqueKey),
            "enqueued_at": .time(enqueuedAt),
            "finished_at": .time(finishedAt),
            "took": .seconds(took),
            "worker": .string(orNull: worker),
            "traceparent": .string(orNull: traceparent),
            "by_fallback": .bool(reason == "fallback"),
            "result": result.map { .raw($0) } ?? .null,
            "payload": payload.map { .raw($0) } ?? .null,
            "errors": .raw(errors),
        ])
    }

    /// The job for people, one fact a line.
    var details: [(name: String, value: String)] {
        var details: [(name: String, value: String)] = [
            ("id", "\(id)"), ("state", stateText), ("kind", kind), ("queue", queue), ("priority", "\(priority)"),
            ("attempts", "\(attempt)"),
        ]
        if let key { details.append(("key", key)) }
        if let uniqueKey { details.append(("unique key", uniqueKey)) }
        details += [("enqueued", enqueuedAt.shortText), ("finished", finishedAt.shortText)]
        if let took { details.append(("took", took.shortText)) }
        if let worker { details.append(("worker", worker)) }
        if let traceparent { details.append(("trace", traceparent)) }
        if let result { details.append(("result", result)) }
        return details + [("payload", payload ?? "not kept")]
    }

    private var stateText: String {
        switch (hasSucceeded, reason) {
        case (true, nil): "succeeded"
        case (true, _): "succeeded, by its circuit's fallback"
        case (false, let reason): "was a dead letter (\(reason ?? "")), which was put back or purged"
        }
    }
}
