import BreakwaterAdmin
import ArgumentParser
import Foundation

/// The options of a manual change to a circuit: which circuit, why, and who makes the change.
struct CircuitChangeOptions: ParsableArguments {
    @OptionGroup var selection: CircuitSelection
    @OptionGroup var explanation: Explanation
    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    /// Sets an override and prints the circuit's new state.
    func apply(_ change: ManualCircuitChange, _ end: OverrideEnd? = nil, done: String) async throws {
        try await apply(done: done) { admin, id in
            try await admin.change(
                id,
                change,
                reason: explanation.reason,
                actor: explanation.who,
                for: end?.duration?.duration,
                until: end?.until?.date
            )
        }
    }

    /// Makes any other change to the circuit and prints its new state.
    func apply(done: String, _ change: (AdminDatabase, CircuitID) async throws -> Void) async throws {
        let circuit = try await AdminDatabase.with(database.database) { admin in
            let id = try await selection.find(admin).id
            try await change(admin, id)
            return try await admin.circuits(id).first
        }
        guard let circuit else { throw CommandFailure.noCircuit(selection.kind) }
        if output.json {
            Terminal.write(circuit.json)
            return
        }
        let until = circuit.overrideUntil.map { ", until \($0.shortText)" } ?? ""
        let sharers = circuit.sharedBy.isEmpty ? "" : " (shared by \(circuit.sharedBy.joined(separator: ", ")))"
        Terminal.write("The circuit of \(circuit.name)\(sharers) is \(done)\(until).".escapingControlCharacters)
    }
}

/// The option that says when an override ends by itself.
struct OverrideEnd: ParsableArguments {
    @Option(
        name: .customLong("for"),
        help: ArgumentHelp("Until so much later, such as 2h. Else until it is reset.", valueName: "duration")
    )
    var duration: DurationArgument?

    @Option(help: ArgumentHelp("Until this time, such as 2030-01-31T08:00:00Z.", valueName: "time"))
    var until: TimeArgument?

    func validate() throws {
        if duration != nil, until != nil {
            throw ValidationError("--for and --until are both given; an override has one of them.")
        }
    }
}

extension CircuitsCommand {
    /// `worker circuits open`.
    struct Open: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "open",
            abstract: "Hold a circuit open: nothing of it runs anywhere.",
            discussion: "Example:\n\n  worker circuits open webhook.deliver --reason \"maintenance\" --for 2h"
        )

        @OptionGroup var change: CircuitChangeOptions
        @OptionGroup var end: OverrideEnd

        func run() async throws { try await change.apply(.open, end, done: "open") }
    }

    /// `worker circuits close`.
    struct Close: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "close",
            abstract: "Hold a circuit closed: its jobs run, whatever happens to them.",
            discussion: "Example:\n\n  worker circuits close webhook.deliver --reason \"false alarm\" --for 10m"
        )

        @OptionGroup var change: CircuitChangeOptions
        @OptionGroup var end: OverrideEnd

        func run() async throws { try await change.apply(.close, end, done: "closed") }
    }

    /// `worker circuits disable`.
    struct Disable: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "disable",
            abstract: "Switch a circuit off: its jobs run, and nothing is counted.",
            discussion:
                "Example:\n\n  worker circuits disable webhook.deliver --reason \"load test\" --until 2030-01-31T08:00:00Z"
        )

        @OptionGroup var change: CircuitChangeOptions
        @OptionGroup var end: OverrideEnd

        func run() async throws { try await change.apply(.disable, end, done: "disabled") }
    }

    /// `worker circuits observe`.
    struct Observe: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "observe",
            abstract: "Let a circuit count only: its jobs run, and its history says when it would have opened.",
            discussion: "Example:\n\n  worker circuits observe webhook.deliver --reason \"trying thresholds\" --for 7d"
        )

        @OptionGroup var change: CircuitChangeOptions
        @OptionGroup var end: OverrideEnd

        func run() async throws { try await change.apply(.observe, end, done: "observed") }
    }

    /// `worker circuits reset`.
    struct Reset: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "reset",
            abstract: "End any override, forget all counts, and start over as closed.",
            discussion: "Example:\n\n  worker circuits reset webhook.deliver --reason \"the provider is back\""
        )

        @OptionGroup var change: CircuitChangeOptions

        func run() async throws { try await change.apply(.reset, done: "reset") }
    }

    /// `worker circuits probe`.
    struct Probe: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "probe",
            abstract: "End the open time of a circuit now: its next jobs are probes, and decide.",
            discussion: """
                Example:

                  worker circuits probe webhook.deliver --reason "the provider says that it is back"

                If the probes fail, the circuit opens again, for as long as it would have without this. A circuit that \
                somebody holds is not probed: reset it.
                """
        )

        @OptionGroup var change: CircuitChangeOptions

        func run() async throws {
            try await change.apply(done: "half-open, and is probed now") { admin, id in
                try await admin.probe(id, reason: change.explanation.reason, actor: change.explanation.who)
            }
        }
    }
}
