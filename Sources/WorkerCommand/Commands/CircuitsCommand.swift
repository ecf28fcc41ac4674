import ArgumentParser
import Foundation

/// `worker circuits`: the breakers of the whole fleet.
struct CircuitsCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "circuits",
            abstract: "Show the circuit breakers, and hold them open or closed by hand.",
            discussion: """
                Examples:

                  worker circuits
                  worker circuits show webhook.deliver
                  worker circuits open webhook.deliver --reason "the provider asked us to stop" --for 1h
                  worker circuits reset webhook.deliver --reason "all is well again"

                While a circuit is open, jobs of its kind wait in the whole fleet and lose nothing by it.
                """,
            subcommands: [List.self, Show.self, Open.self, Close.self, Reset.self],
            defaultSubcommand: List.self
        )
    }
}

extension CircuitsCommand {
    /// `worker circuits list`.
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract: "List all circuits.",
            discussion: "Example:\n\n  worker circuits list --json"
        )

        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let circuits = try await AdminDatabase.with(database.database) { try await $0.circuits() }
            if output.json {
                Terminal.write(.array(circuits.map(\.json)))
            } else if circuits.isEmpty {
                Terminal.write("There are no circuits yet: a worker that handles a kind creates the kind's circuit.")
            } else {
                Terminal.write(CircuitStatus.table(circuits))
            }
        }
    }

    /// `worker circuits show`.
    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show",
            abstract: "Show one circuit and its latest transitions.",
            discussion: "Example:\n\n  worker circuits show webhook.deliver --limit 50"
        )

        @Argument(help: "The kind of job.")
        var kind: String

        @Option(help: "How many transitions are shown, newest first.")
        var limit = 10

        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let (circuits, transitions) = try await AdminDatabase.with(database.database) {
                (try await $0.circuits(kind: kind), try await $0.transitions(ofKind: kind, limit: max(0, limit)))
            }
            guard let circuit = circuits.first else { throw CommandFailure.noCircuit(kind) }
            if output.json {
                Terminal.write(
                    .object(["circuit": circuit.json, "transitions": .array(transitions.map(\.json))])
                )
                return
            }
            for (name, value) in circuit.details { Terminal.write("\(name): \(value.escapingControlCharacters)") }
            if !transitions.isEmpty {
                Terminal.write("")
                Terminal.write(CircuitTransition.table(transitions))
            }
        }
    }

    /// `worker circuits open`.
    struct Open: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "open",
            abstract: "Hold a circuit open: nothing of its kind runs anywhere.",
            discussion: "Example:\n\n  worker circuits open webhook.deliver --reason \"maintenance\" --for 2h"
        )

        @OptionGroup var change: CircuitChange
        @Option(name: .customLong("for"), help: "Hold it for this long. Else until it is closed or reset.")
        var duration: DurationArgument?

        func run() async throws { try await change.apply(.open(for: duration?.duration), done: "open") }
    }

    /// `worker circuits close`.
    struct Close: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "close",
            abstract: "Hold a circuit closed: its jobs run, whatever happens to them.",
            discussion: "Example:\n\n  worker circuits close webhook.deliver --reason \"false alarm\" --for 10m"
        )

        @OptionGroup var change: CircuitChange
        @Option(name: .customLong("for"), help: "Hold it for this long. Else until it is opened or reset.")
        var duration: DurationArgument?

        func run() async throws { try await change.apply(.closed(for: duration?.duration), done: "closed") }
    }

    /// `worker circuits reset`.
    struct Reset: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "reset",
            abstract: "End any override, forget all counts, and start over as closed.",
            discussion: "Example:\n\n  worker circuits reset webhook.deliver --reason \"the provider is back\""
        )

        @OptionGroup var change: CircuitChange

        func run() async throws { try await change.apply(.reset, done: "reset") }
    }
}

/// What opening, closing and resetting have in common.
struct CircuitChange: ParsableArguments {
    @Argument(help: "The kind of job.")
    var kind: String

    @Option(help: "Why, for whoever reads the circuit's history next.")
    var reason: String

    @Option(help: "Who does it. Else the USER of this shell, else the database's user.")
    var actor: String?

    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if reason.isEmpty { throw ValidationError("The reason is empty; say why in a few words.") }
    }

    /// Does it, and says how the circuit stands then.
    func apply(_ override: CircuitOverride, done: String) async throws {
        let actor = actor ?? ProcessInfo.processInfo.environment["USER"]
        let circuits = try await AdminDatabase.with(database.database) { admin in
            guard try await !admin.circuits(kind: kind).isEmpty else { throw CommandFailure.noCircuit(kind) }
            try await admin.override(kind: kind, override, reason: reason, actor: actor)
            return try await admin.circuits(kind: kind)
        }
        guard let circuit = circuits.first else { throw CommandFailure.noCircuit(kind) }
        if output.json {
            Terminal.write(circuit.json)
        } else {
            let until = circuit.overrideUntil.map { ", until \($0.shortText)" } ?? ""
            Terminal.write("The circuit of \(kind.escapingControlCharacters) is \(done)\(until).")
        }
    }
}

extension CommandFailure {
    fileprivate static func noCircuit(_ kind: String) -> CommandFailure {
        CommandFailure(
            .refused,
            "there is no circuit for the kind '\(kind)'; a worker that handles the kind creates it when it starts.\n"
                + "Run: worker circuits list"
        )
    }
}
