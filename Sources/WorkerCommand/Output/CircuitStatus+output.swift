extension CircuitStatus {
    /// The circuit for programs.
    var json: JSONValue {
        .object([
            "kind": .string(kind),
            "key": .string(key),
            "state": .string(state),
            "generation": .integer(generation),
            "since": .time(since),
            "reason": .string(reason),
            "retry_at": .time(retryAt),
            "reopened": .integer(Int64(reopened)),
            "override": .string(orNull: override),
            "override_actor": .string(orNull: overrideActor),
            "override_until": .time(overrideUntil),
            "probes_out": .integer(Int64(probesOut)),
            "probes_succeeded": .integer(Int64(probesSucceeded)),
            "calls": .integer(Int64(calls)),
            "failed": .integer(Int64(failed)),
            "waiting": .integer(Int64(waiting)),
        ])
    }

    /// The circuit for people, one fact a line.
    var details: [(name: String, value: String)] {
        var details = [("kind", kind), ("state", state), ("since", since.shortText), ("reason", reason)]
        if let retryAt { details.append(("probes begin", retryAt.shortText)) }
        if let override {
            let until = overrideUntil?.shortText ?? "somebody resets it"
            details.append(("held", "\(override) by \(overrideActor ?? "?") until \(until)"))
        }
        details.append(("calls in window", "\(calls), of which failed: \(failed)"))
        if state == "half_open" { details.append(("probes", "\(probesOut) out, \(probesSucceeded) succeeded")) }
        if reopened > 0 { details.append(("re-opened", "\(reopened) times")) }
        return details + [("generation", "\(generation)"), ("waiting", "\(waiting) jobs")]
    }

    /// Circuits under headings.
    static func table(_ circuits: [CircuitStatus]) -> Table {
        Table(
            columns: [
                .long("KIND"), .text("STATE"), .text("SINCE"), .text("PROBES FROM"), .text("HELD"), .number("CALLS"),
                .number("FAILED"), .number("WAITING"), .long("REASON"),
            ],
            rows: circuits.map { circuit in
                [
                    circuit.key.isEmpty ? circuit.kind : "\(circuit.kind)/\(circuit.key)", circuit.state,
                    circuit.since.shortText, circuit.retryAt?.shortText ?? "",
                    circuit.override.map { "\($0) by \(circuit.overrideActor ?? "?")" } ?? "", "\(circuit.calls)",
                    "\(circuit.failed)", "\(circuit.waiting)", circuit.reason,
                ]
            }
        )
    }
}

extension CircuitTransition {
    /// The transition for programs.
    var json: JSONValue {
        .object([
            "at": .time(at),
            "generation": .integer(generation),
            "from": .string(from),
            "to": .string(to),
            "reason": .string(reason),
            "actor": .string(orNull: actor),
            "worker": worker.map { .integer($0) } ?? .null,
        ])
    }

    /// Transitions under headings.
    static func table(_ transitions: [CircuitTransition]) -> Table {
        Table(
            columns: [.text("AT"), .text("FROM"), .text("TO"), .text("BY"), .long("REASON")],
            rows: transitions.map { transition in
                [
                    transition.at.shortText, transition.from, transition.to,
                    transition.actor ?? transition.worker.map { "worker \($0)" } ?? "", transition.reason,
                ]
            }
        )
    }
}
