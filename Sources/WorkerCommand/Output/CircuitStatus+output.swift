import BreakwaterAdmin

extension CircuitStatus {
    /// The circuit for programs.
    var json: JSONValue {
        .object([
            "kind": .string(id.kind),
            "key": .string(id.key),
            "name": .string(name),
            "shared_by": .array(sharedBy.map { .string($0) }),
            "state": .string(state),
            "generation": .integer(generation),
            "since": .time(since),
            "reason": .string(reason),
            "retry_at": .time(retryAt),
            "next_probe_in_seconds": .seconds(nextProbeIn),
            "reopened": .integer(Int64(reopened)),
            "ramp_until": .time(rampUntil),
            "override": .string(orNull: override),
            "override_actor": .string(orNull: overrideActor),
            "override_until": .time(overrideUntil),
            "probes_out": .integer(Int64(probesOut)),
            "probes": .integer(orNull: policy.probes),
            "probes_succeeded": .integer(Int64(probesSucceeded)),
            "successes_to_close": .integer(orNull: policy.successesToClose),
            "calls": .integer(Int64(calls)),
            "minimum_calls": .integer(orNull: policy.minimumCalls),
            "failed": .integer(Int64(failed)),
            "failure_rate": .number(orNull: failureRate),
            "failure_threshold": .number(orNull: policy.failureRate),
            "slow": .integer(Int64(slow)),
            "slow_rate": .number(orNull: slowRate),
            "slow_threshold": .number(orNull: policy.slowRate),
            "failures_in_a_row": .integer(Int64(failuresInARow)),
            "consecutive_failures": .integer(orNull: policy.consecutiveFailures),
            "fallback": .string(orNull: policy.fallback),
            "waiting": .integer(Int64(waiting)),
            "suspended_workers": .array(suspensions.map(\.json)),
        ])
    }

    /// The state in words for people.
    private var stateText: String { state.replacing("_", with: "-") }

    /// `open by ada until 2030-01-31 08:00:00Z`.
    private var overrideText: String? {
        override.map { override in
            let word = override == "metrics_only" ? "observed" : override
            return "\(word) by \(overrideActor ?? "?")" + (overrideUntil.map { " until \($0.shortText)" } ?? "")
        }
    }

    /// The time until the next probe, or how many probes are running.
    private var probesText: String? {
        switch state {
        case "open": nextProbeIn.map { $0 > .zero ? "in \($0.shortText)" : "now" }
        case "half_open": "\(probesOut)/\(policy.probes.map { "\($0)" } ?? "?") out"
        default: nil
        }
    }

    /// `60%/50%`: the share now, and the threshold at which the circuit opens.
    private static func share(_ now: Double?, of threshold: Double?) -> String {
        "\(now?.percentText ?? "-")/\(threshold?.percentText ?? "off")"
    }

    /// The circuit for people, one fact a line.
    var details: [(name: String, value: String)] {
        var details = [("circuit", name)]
        if id.kind == "*" {
            details.append(("shared by", sharedBy.isEmpty ? "no handler" : sharedBy.joined(separator: ", ")))
        }
        details += [("state", stateText), ("since", "\(since.shortText), \(age.shortText) ago"), ("why", reason)]
        if let overrideText { details.append(("by hand", overrideText)) }
        if let retryAt {
            details.append(("next probe", "\(retryAt.shortText)\(probesText.map { ", \($0)" } ?? "")"))
        }
        if state == "half_open" {
            let needed = policy.successesToClose.map { "\($0)" } ?? "?"
            details.append(("probes", "\(probesText ?? "-"), \(probesSucceeded)/\(needed) succeeded"))
        }
        if let rampUntil { details.append(("admits all from", rampUntil.shortText)) }
        if reopened > 0 { details.append(("re-opened", reopened == 1 ? "once" : "\(reopened) times")) }
        details.append(("calls in the window", "\(calls), counting from \(policy.minimumCalls.map { "\($0)" } ?? "?")"))
        details.append(("failed, opens at", "\(failed): \(Self.share(failureRate, of: policy.failureRate))"))
        details.append(("slow, opens at", "\(slow): \(Self.share(slowRate, of: policy.slowRate))"))
        details.append(
            ("in a row, opens at", "\(failuresInARow)/\(policy.consecutiveFailures.map { "\($0)" } ?? "off")")
        )
        details.append(("waiting", waiting == 1 ? "1 job" : "\(waiting) jobs"))
        if let fallback = policy.fallback { details.append(("while open", fallback)) }
        return details + [("generation", "\(generation)")]
    }

    /// Circuits under headings.
    static func table(_ circuits: [CircuitStatus]) -> Table {
        Table(
            columns: [
                .long("CIRCUIT"), .text("STATE"), .text("FOR"), .text("PROBES", isOptional: true), .number("CALLS"),
                .number("FAILED"), .number("SLOW", isOptional: true), .number("WAITING"),
                .long("BY HAND", isOptional: true), .long("WHY"),
            ],
            rows: circuits.map { circuit in
                [
                    circuit.name, circuit.stateText, circuit.age.shortText, circuit.probesText ?? "",
                    "\(circuit.calls)", share(circuit.failureRate, of: circuit.policy.failureRate),
                    circuit.policy.slowRate == nil ? "" : share(circuit.slowRate, of: circuit.policy.slowRate),
                    "\(circuit.waiting)", circuit.overrideText ?? "", circuit.reason,
                ]
            }
        )
    }
}

extension Suspension {
    /// The suspension for programs.
    var json: JSONValue {
        .object([
            "worker": .integer(worker),
            "name": .string(orNull: workerName),
            "since": .time(since),
            "until": .time(until),
            "times": .integer(Int64(times)),
            "reason": .string(reason),
        ])
    }

    /// Suspended workers under headings.
    static func table(_ suspensions: [Suspension]) -> Table {
        Table(
            columns: [.long("CIRCUIT"), .long("WORKER"), .text("TRIES AGAIN"), .number("TIMES"), .long("WHY")],
            rows: suspensions.map { suspension in
                [
                    suspension.circuitName, suspension.workerName ?? "\(suspension.worker), gone",
                    suspension.endsIn > .zero ? "in \(suspension.endsIn.shortText)" : "now", "\(suspension.times)",
                    suspension.reason,
                ]
            }
        )
    }
}

extension RecordedTransition {
    /// The transition for programs.
    var json: JSONValue {
        .object([
            "kind": .string(circuit.kind),
            "key": .string(circuit.key),
            "name": .string(circuitName),
            "at": .time(at),
            "generation": .integer(generation),
            "from": .string(from),
            "to": .string(to),
            "reason": .string(reason),
            "evidence": .string(orNull: evidence),
            "actor": .string(orNull: actor),
            "worker": worker.map { .integer($0) } ?? .null,
            "worker_name": .string(orNull: workerName),
        ])
    }

    /// Transitions under headings.
    static func table(_ transitions: [RecordedTransition]) -> Table {
        Table(
            columns: [.text("AT"), .long("CIRCUIT"), .text("FROM"), .text("TO"), .long("BY"), .long("WHY")],
            rows: transitions.map { transition in
                [
                    transition.at.shortText, transition.circuitName, transition.from.replacing("_", with: "-"),
                    transition.to.replacing("_", with: "-"),
                    transition.actor ?? transition.workerName ?? transition.worker.map { "worker \($0)" } ?? "time",
                    transition.reasonWithEvidence,
                ]
            }
        )
    }
}

extension Double {
    /// A share as a percentage, to a tenth below ten.
    fileprivate var percentText: String {
        let percent = self * 100
        return "\((percent < 10 ? (percent * 10).rounded() / 10 : percent.rounded()).shortText)%"
    }
}
