import BreakwaterAdmin
import Foundation

extension CircuitEvidence {
    /// The most probes that are printed for people.
    private static let mostProbes = 20

    /// Prints the known evidence for people. Prints nothing if there is none.
    func write() {
        if let opening {
            Terminal.write("\nLATEST OPENING")
            Terminal.write(details: opening.details)
            if !opening.examples.isEmpty { Terminal.write(Self.table(opening.examples)) }
        }
        if let round {
            Terminal.write("\nLATEST PROBES")
            Terminal.write(details: round.details)
            if !round.probes.isEmpty { Terminal.write(Self.table(Array(round.probes.suffix(Self.mostProbes)))) }
            if round.probes.count > Self.mostProbes {
                Terminal.write("The first \(round.probes.count - Self.mostProbes) are left out; --json has all.")
            }
        }
    }

    private static func table(_ examples: [FailedJob]) -> Table {
        Table(
            columns: [.number("JOB"), .text("FAILED AT"), .long("ERROR")],
            rows: examples.map { ["\($0.job)", $0.at?.shortText ?? "", error($0.name, $0.message)] }
        )
    }

    private static func table(_ probes: [Probe]) -> Table {
        Table(
            columns: [
                .number("PROBE"), .text("ENDED AT"), .text("OUTCOME"), .long("WORKER"),
                .long("ERROR", isOptional: true),
            ],
            rows: probes.map { probe in
                [
                    "\(probe.job)", probe.at?.shortText ?? "", probe.outcome,
                    probe.workerName ?? probe.worker.map { "\($0), gone" } ?? "", error(probe.name, probe.message),
                ]
            }
        )
    }

    /// A failure on one line: `http.500: the message`.
    private static func error(_ name: String?, _ message: String?) -> String {
        [name, message].compactMap(\.self).filter { !$0.isEmpty }.joined(separator: ": ")
    }
}

extension CircuitEvidence.Opening {
    /// The opening for programs.
    var json: JSONValue {
        .object([
            "at": .time(at),
            "reason": .string(reason),
            "actor": .string(orNull: actor),
            "failures": .array(
                failures.map { .object(["name": .string($0.name), "count": .integer(Int64($0.count))]) }
            ),
            "repeats": .integer(Int64(repeats)),
            "examples": .array(
                examples.map { example in
                    .object([
                        "job": .integer(example.job),
                        "name": .string(example.name),
                        "message": .string(orNull: example.message),
                        "at": .time(example.at),
                    ])
                }
            ),
            "workers": .array(
                workers.map { worker in
                    .object([
                        "worker": .integer(worker.worker),
                        "name": .string(orNull: worker.name),
                        "count": .integer(Int64(worker.count)),
                    ])
                }
            ),
            "common_value": commonValue?.json ?? .null,
        ])
    }

    /// The opening for people, one fact a line.
    fileprivate var details: [(name: String, value: String)] {
        var details = [("at", at.shortText), ("why", reason)]
        if let actor { details.append(("by hand", actor)) }
        if !failures.isEmpty {
            details.append(("failures", failures.map { "\($0.name) (\($0.count))" }.joined(separator: ", ")))
        }
        if repeats > 0 {
            details.append(("not counted", "\(repeats) of these: their jobs had failed before, and others succeeded"))
        }
        if !workers.isEmpty {
            let names = workers.map { "\($0.name ?? "worker \($0.worker)") (\($0.count))" }
            details.append(("seen by", names.joined(separator: ", ")))
        }
        if let commonValue {
            details.append(
                ("common value", "\(commonValue.finding): `\(commonValue.remedy)` would keep the others running.")
            )
        }
        return details
    }
}

extension CircuitEvidence.CommonValue {
    /// The common value for programs.
    fileprivate var json: JSONValue {
        .object([
            "path": .string(path),
            "value": .string(value),
            "failed": .integer(Int64(failed)),
            "of_failed": .integer(Int64(ofFailed)),
            "others": .integer(Int64(others)),
            "of_others": .integer(Int64(ofOthers)),
        ])
    }
}

extension CircuitEvidence.Round {
    /// The round for programs.
    var json: JSONValue {
        .object([
            "at": .time(at),
            "to": .string(orNull: to),
            "reason": .string(orNull: reason),
            "probes": .array(
                probes.map { probe in
                    .object([
                        "job": .integer(probe.job),
                        "outcome": .string(probe.outcome),
                        "name": .string(orNull: probe.name),
                        "message": .string(orNull: probe.message),
                        "worker": probe.worker.map { .integer($0) } ?? .null,
                        "worker_name": .string(orNull: probe.workerName),
                        "at": .time(probe.at),
                    ])
                }
            ),
        ])
    }

    /// The round for people, one fact a line.
    fileprivate var details: [(name: String, value: String)] {
        guard let at, let to, let reason else { return [("verdict", "none yet")] }
        return [("verdict", "\(to) at \(at.shortText): \(reason)")]
    }
}
