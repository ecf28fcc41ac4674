import BreakwaterAdmin
import ArgumentParser
import Foundation

/// `worker circuits`: the breakers of the whole fleet.
struct CircuitsCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "circuits",
            abstract: "Show the circuit breakers, and take them out of the breaker's hands.",
            discussion: """
                Examples:

                  worker circuits
                  worker circuits show webhook.deliver
                  worker circuits show webhook.deliver --key api.example.com
                  worker circuits open webhook.deliver --reason "the provider asked us to stop" --for 1h
                  worker circuits reset webhook.deliver --reason "all is well again"

                While a circuit is open, jobs of its kind wait in the whole fleet and lose nothing by it. A circuit \
                that several kinds share goes by its name in the place of a kind.
                """,
            subcommands: [
                List.self, Show.self, History.self, Open.self, Close.self, Disable.self, Observe.self, Reset.self,
                Probe.self,
            ],
            defaultSubcommand: List.self
        )
    }
}

/// The arguments that name one circuit.
struct CircuitSelection: ParsableArguments {
    @Argument(help: "The kind of job, or the name of a circuit that several kinds share.")
    var kind: String

    @Option(
        help: "The value in payloads whose circuit it is, where the kind has a circuit for each. Else the kind's own."
    )
    var key: String?

    /// Finds the circuit.
    ///
    /// - Throws: ``CommandFailure`` when there is no such circuit.
    func find(_ admin: AdminDatabase) async throws -> CircuitStatus {
        guard
            let id = try await admin.circuitID(kind: kind, key: key),
            let circuit = try await admin.circuits(id).first
        else {
            throw key == nil ? CommandFailure.noCircuit(kind) : CommandFailure.noCircuit(kind, key: key ?? "")
        }
        return circuit
    }
}

extension CircuitsCommand {
    /// `worker circuits list`.
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract: "List all circuits, and the workers that are suspended from them.",
            discussion: """
                Example:

                  worker circuits list --json

                PROBES: when the next job is let through an open circuit, or how many of those are out. CALLS: in the \
                window now. FAILED and SLOW: their share now, and the share that opens the circuit. WAITING: jobs \
                behind it.
                """
        )

        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let circuits = try await AdminDatabase.with(database.database) { try await $0.circuits() }
            if output.json {
                Terminal.write(.array(circuits.map(\.json)))
                return
            }
            guard !circuits.isEmpty else {
                Terminal.write("There are no circuits yet: a worker that handles a kind creates the kind's circuit.")
                return
            }
            Terminal.write(CircuitStatus.table(circuits))
            CircuitsCommand.writeSuspensions(circuits.flatMap(\.suspensions))
        }
    }

    /// `worker circuits show`.
    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show",
            abstract:
                "Show one circuit: why it opened, how its probes ended, who is suspended, and its latest transitions.",
            discussion: """
                Examples:

                  worker circuits show webhook.deliver --limit 50
                  worker circuits show webhook.deliver --key api.example.com
                """
        )

        @OptionGroup var selection: CircuitSelection

        @Option(help: "How many transitions are shown, newest first.")
        var limit = 10

        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func validate() throws {
            guard limit >= 0 else { throw ValidationError("--limit \(limit) is not allowed; give at least 0.") }
        }

        func run() async throws {
            let (circuit, evidence, transitions) = try await AdminDatabase.with(database.database) { admin in
                let circuit = try await selection.find(admin)
                return (
                    circuit,
                    try await admin.evidence(of: circuit.id),
                    try await admin.transitions(kind: circuit.id.kind, key: circuit.id.key, limit: limit)
                )
            }
            if output.json {
                Terminal.write(
                    .object([
                        "circuit": circuit.json,
                        "opening": evidence.opening?.json ?? .null,
                        "round": evidence.round?.json ?? .null,
                        "transitions": .array(transitions.map(\.json)),
                    ])
                )
                return
            }
            Terminal.write(details: circuit.details)
            evidence.write()
            CircuitsCommand.writeSuspensions(circuit.suspensions)
            if !transitions.isEmpty {
                Terminal.write("\nHISTORY")
                Terminal.write(RecordedTransition.table(transitions))
            }
        }
    }

    /// `worker circuits history`.
    struct History: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "history",
            abstract: "List the transitions of all circuits, or of some, the newest first.",
            discussion: """
                Examples:

                  worker circuits history --limit 100
                  worker circuits history webhook.deliver

                With a kind alone, those of all its keys.
                """
        )

        @Argument(help: "Only those of this kind, or of the shared circuit of this name.")
        var kind: String?

        @Option(help: "Only those of the circuit of this key.")
        var key: String?

        @OptionGroup var most: MostShown
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func validate() throws {
            if kind == nil, key != nil { throw ValidationError("--key goes with a kind.") }
        }

        func run() async throws {
            let transitions = try await AdminDatabase.with(database.database) { admin in
                guard let kind else { return try await admin.transitions(limit: most.limit) }
                guard let id = try await admin.circuitID(kind: kind, key: key) else {
                    throw key.map { CommandFailure.noCircuit(kind, key: $0) } ?? CommandFailure.noCircuit(kind)
                }
                let isOneOfMany = key == nil && id.kind != "*"
                return try await admin.transitions(kind: id.kind, key: isOneOfMany ? nil : id.key, limit: most.limit)
            }
            if output.json {
                Terminal.write(.array(transitions.map(\.json)))
            } else if transitions.isEmpty {
                Terminal.write("There were no transitions yet.")
            } else {
                Terminal.write(RecordedTransition.table(transitions))
                if transitions.count == most.limit {
                    Terminal.complain("Only the newest \(most.limit) are shown; --limit shows more.")
                }
            }
        }
    }

    /// Prints the suspended workers under a title, if there are any.
    fileprivate static func writeSuspensions(_ suspensions: [Suspension]) {
        guard !suspensions.isEmpty else { return }
        Terminal.write("\nSUSPENDED WORKERS")
        Terminal.write(Suspension.table(suspensions))
    }
}

extension CommandFailure {
    /// The failure when no circuit has this kind or name.
    static func noCircuit(_ kind: String) -> CommandFailure {
        CommandFailure(
            .refused,
            "there is no circuit for the kind '\(kind)', and no shared one of this name; "
                + "a worker that handles the kind creates it when it starts.\nRun: worker circuits list"
        )
    }

    /// The failure when the kind has no circuit for this key.
    static func noCircuit(_ kind: String, key: String) -> CommandFailure {
        CommandFailure(
            .refused,
            "there is no circuit for the key '\(key)' of the kind '\(kind)'; a key gets one with its first failure.\n"
                + "Run: worker circuits list"
        )
    }
}
