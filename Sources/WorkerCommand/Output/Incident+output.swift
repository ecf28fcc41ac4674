import BreakwaterAdmin
import Foundation

extension Incident {
    /// The incident for programs.
    ///
    /// - Parameter isWhole: Whether to include what takes longer to query: the evidence, and how many dead letters are
    ///   left.
    func json(isWhole: Bool) -> JSONValue {
        .object(
            JSONValue.object([
                "id": .integer(id),
                "kind": .string(circuit.kind),
                "key": .string(circuit.key),
                "circuit": .string(circuitName),
                "began_at": .time(beganAt),
                "ended_at": endedAt.map { .time($0) } ?? .null,
                "duration": .number(duration / .seconds(1)),
                "time_open": .number(timeOpen / .seconds(1)),
                "openings": .integer(Int64(openings)),
                "is_false_alarm": .bool(isFalseAlarm),
                "cause": .string(cause),
                "actor": .string(orNull: actor),
                "end_reason": .string(orNull: endReason),
                "failures": .string(orNull: failures),
                "waiting_at_begin": .integer(orNull: counts.waitingAtBegin),
                "most_waiting": .integer(orNull: counts.mostWaiting),
                "waiting": .integer(orNull: counts.waiting),
                "longest_wait": counts.longestWait.map { .number($0 / .seconds(1)) } ?? .null,
                "attempts_spent": .integer(orNull: counts.attemptsSpent),
                "handed_back": .integer(orNull: counts.handedBack),
                "dead_letters": .integer(orNull: counts.deadLetters),
                "calls": .integer(orNull: counts.calls),
                "calls_spared": .integer(orNull: counts.callsSpared),
                "is_counted": .bool(isCounted),
            ]).members
                + (isWhole
                    ? [
                        .init("dead_letters_left", .integer(orNull: counts.deadLettersLeft)),
                        .init("evidence", evidence.map { .raw($0) } ?? .null),
                    ] : [])
        )
    }

    /// The state of the incident in a word or two.
    var stateText: String { isFalseAlarm ? "false alarm" : endedAt == nil ? "going on" : "over" }

    /// The incident for people, one fact a line.
    var details: [(name: String, value: String)] {
        func number(_ count: Int?) -> String { count.map { "\($0)" } ?? "not counted" }
        var details = [
            ("incident", "\(id)"), ("circuit", circuitName), ("state", stateText), ("cause", cause),
            ("opened by", actor ?? "the breaker"), ("failures", failures ?? "-"), ("began", beganAt.shortText),
            ("ended", endedAt.map { "\($0.shortText): \(endReason ?? "-")" } ?? "-"),
            (
                "lasted",
                openings == 1
                    ? duration.shortText : "\(duration.shortText), of which it was open for \(timeOpen.shortText)"
            ),
            ("openings", "\(openings)"),
            (
                "waiting jobs",
                "\(number(counts.waitingAtBegin)) at first, \(number(counts.mostWaiting)) at the most, "
                    + "\(number(counts.waiting)) at last"
            ),
            ("longest wait", counts.longestWait?.shortText ?? "not counted"),
            ("attempts spent", number(counts.attemptsSpent)), ("handed back", number(counts.handedBack)),
            ("dead letters", "\(number(counts.deadLetters)), of which \(number(counts.deadLettersLeft)) are left"),
            ("calls", number(counts.calls)), ("calls spared", "about \(number(counts.callsSpared))"),
        ]
        if !isCounted { details.append(("counts", "some seconds behind")) }
        return details
    }

    /// Incidents under headings.
    static func table(_ incidents: [Incident]) -> Table {
        Table(
            columns: [
                .number("ID"), .long("CIRCUIT"), .text("BEGAN"), .number("LASTED"), .text("STATE"), .number("OPENINGS"),
                .text("WAITED"), .number("SPENT"), .number("BACK"), .number("DIED"), .number("SPARED"), .long("CAUSE"),
            ],
            rows: incidents.map { incident in
                let counts = incident.counts
                let waited = counts.mostWaiting.map { most in
                    counts.longestWait.map { "\(most), \($0.shortText)" } ?? "\(most)"
                }
                return [
                    "\(incident.id)", incident.circuitName, incident.beganAt.shortText, incident.duration.shortText,
                    incident.stateText, "\(incident.openings)", waited ?? "",
                    counts.attemptsSpent.map { "\($0)" } ?? "", counts.handedBack.map { "\($0)" } ?? "",
                    counts.deadLetters.map { "\($0)" } ?? "", counts.callsSpared.map { "\($0)" } ?? "",
                    incident.failures.map { "\(incident.cause): \($0)" } ?? incident.cause,
                ]
            }
        )
    }
}
