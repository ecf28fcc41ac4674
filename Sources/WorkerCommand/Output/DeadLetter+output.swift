import BreakwaterAdmin

extension DeadLetter {
    /// The dead letter for programs.
    var json: JSONValue { json(state: nil) }

    /// The dead letter for programs, with a state if the output contains jobs in other states too.
    func json(state: String?) -> JSONValue {
        .object([.init("id", .integer(id))] + (state.map { [.init("state", .string($0))] } ?? []) + facts.members)
    }

    private var facts: JSONValue {
        .object([
            "queue": .string(queue),
            "kind": .string(kind),
            "priority": .integer(Int64(priority)),
            "reason": .string(reason),
            "attempt": .integer(Int64(attempt)),
            "max_attempts": .integer(orNull: maxAttempts),
            "unique_key": .string(orNull: uniqueKey),
            "enqueued_at": .time(enqueuedAt),
            "died_at": .time(diedAt),
            "payload": .raw(payload),
            "errors": .raw(errors),
        ])
    }

    /// The dead letter for people, one fact a line.
    var details: [(name: String, value: String)] {
        [
            ("id", "\(id)"), ("kind", kind), ("queue", queue), ("priority", "\(priority)"), ("reason", reason),
            ("attempts", maxAttempts.map { "\(attempt) of \($0)" } ?? "\(attempt)"), ("unique key", uniqueKey ?? "-"),
            ("enqueued", enqueuedAt.shortText), ("died", diedAt.shortText), ("last error", lastError ?? "-"),
            ("payload", payload),
        ]
    }

    /// Dead letters under headings.
    static func table(_ letters: [DeadLetter]) -> Table {
        Table(
            columns: [
                .number("ID"), .long("KIND"), .long("QUEUE"), .text("REASON"), .number("ATTEMPTS"), .text("DIED"),
                .long("LAST ERROR"),
            ],
            rows: letters.map { letter in
                [
                    "\(letter.id)", letter.kind, letter.queue, letter.reason, "\(letter.attempt)",
                    letter.diedAt.shortText, letter.lastError ?? "",
                ]
            }
        )
    }
}
