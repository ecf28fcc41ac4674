import ArgumentParser
import BreakwaterAdmin
import Foundation

/// `worker tail`: prints the outcomes of runs as they happen.
struct TailCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "tail",
            abstract: "Follow how runs end, and the transitions of circuits, as they happen.",
            discussion: """
                Examples:

                  worker tail
                  worker tail --kind webhook.deliver --outcome failed,unavailable,dead_letter
                  worker tail --outcome circuit --json

                Outcomes: \(outcomes.joined(separator: ", ")). \
                failed, unavailable, throttled, unable, snoozed and released jobs run again; rescued ones had lost their worker.

                Workers write outcomes down only while somebody follows them, and of each batch at most 100 successes a \
                kind one by one: the others are told as a number. It ends with ctrl-C.
                """
        )
    }

    /// All outcomes. `circuit` stands for a circuit's transition.
    static let outcomes = [
        "succeeded", "failed", "unavailable", "throttled", "unable", "snoozed", "released", "rescued", "dead_letter",
        "circuit",
    ]

    @Option(help: ArgumentHelp("Only of these kinds.", valueName: "name,…"))
    var kind: String?

    @Option(help: ArgumentHelp("Only of these queues; circuits have none, and are left out.", valueName: "name,…"))
    var queue: String?

    @Option(help: ArgumentHelp("Only these outcomes.", valueName: "outcome,…"))
    var outcome: String?

    @OptionGroup var database: DatabaseOptions

    @Flag(help: "Print one JSON object a line. Times are RFC 3339, durations are seconds.")
    var json = false

    func validate() throws {
        for name in Self.list(outcome) where !Self.outcomes.contains(name) {
            throw ValidationError(
                "There is no outcome '\(name)'; give some of \(Self.outcomes.joined(separator: ", "))."
            )
        }
        for (option, value) in [("--kind", kind), ("--queue", queue), ("--outcome", outcome)] {
            if let value, Self.list(value).isEmpty {
                throw ValidationError("\(option) is empty; leave it out for all.")
            }
        }
    }

    func run() async throws {
        Foreground.installHandlers()
        var hasBegun = false
        while Foreground.stopSignal == nil {
            do {
                try await AdminDatabase.with(database.database) { admin in
                    let follower = try await OutcomeFollower(
                        admin: admin,
                        kinds: Self.list(kind),
                        queues: Self.list(queue),
                        names: Self.list(outcome)
                    )
                    if hasBegun || isatty(STDERR_FILENO) == 1 {
                        Terminal.complain(
                            hasBegun
                                ? "Connected again; what ended meanwhile is not shown." : "Following; ctrl-C ends it."
                        )
                    }
                    hasBegun = true
                    try await follow(follower)
                }
                return
            } catch let failure as CommandFailure where failure.status == .unavailable && hasBegun {
                Terminal.complain(String(failure.message.prefix { $0 != "\n" }) + "; trying again")
                _ = await Foreground.wait(.seconds(1))
            }
        }
    }

    /// Prints outcomes until a signal stops the command or standard output is closed by its reader.
    private func follow(_ follower: consuming OutcomeFollower) async throws {
        var follower = follower
        let width = Terminal.width
        while Foreground.stopSignal == nil {
            let lines = try await follower.next(asJSON: json)
            for line in lines { Terminal.write(json ? line : width.map { line.truncated(toWidth: $0) } ?? line) }
            guard Terminal.flush() else { break }
            _ = await Foreground.wait(.milliseconds(250))
        }
        try await follower.end()
    }

    private static func list(_ text: String?) -> [String] {
        (text ?? "").split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
    }
}

/// Reads each outcome and each transition once.
struct OutcomeFollower {
    private let admin: AdminDatabase
    private let kinds: [String]
    private let queues: [String]
    private let names: [String]
    private var subscriber: Int64
    private var renewedAt = ContinuousClock.now
    private var snapshot: String
    private var newestTransition: Int64
    private var seenTransitions: Set<Int64>

    /// The most outcomes that one query returns.
    private static let mostAtOnce = 2000
    /// Transitions commit in almost the order of their ids. A transition may still appear this far behind the newest
    /// one.
    private static let overlap: Int64 = 100

    /// Begins to follow now.
    ///
    /// - Parameters:
    ///   - admin: The connection, which the follower keeps using.
    ///   - kinds: The kinds to follow; empty for all.
    ///   - queues: The queues to follow; empty for all.
    ///   - names: The outcomes to follow; empty for all. `circuit` stands for transitions.
    init(admin: AdminDatabase, kinds: [String], queues: [String], names: [String]) async throws {
        self.admin = admin
        self.kinds = kinds
        self.queues = queues
        self.names = names
        subscriber = try await admin.subscribe(nil)
        snapshot = try await admin.snapshot()
        newestTransition = try await admin.newestTransition()
        seenTransitions = Set(try await admin.transitions(after: newestTransition - Self.overlap).map(\.id))
    }

    /// The outcomes and transitions since the last call, as lines.
    mutating func next(asJSON isJSON: Bool) async throws -> [String] {
        if renewedAt.duration(to: .now) > .seconds(5) {
            subscriber = try await admin.subscribe(subscriber)
            renewedAt = .now
        }
        var lines: [(at: Date, line: String)] = []
        if names.isEmpty || names.contains(where: { $0 != "circuit" }) {
            let portion = try await admin.outcomes(
                since: snapshot,
                kinds: kinds,
                queues: queues,
                names: names,
                limit: Self.mostAtOnce
            )
            snapshot = portion.snapshot
            lines = portion.outcomes.map { ($0.at, isJSON ? $0.json.lineText : $0.line) }
            if portion.leftOut > 0 {
                Terminal.complain(
                    "\(portion.leftOut.groupedText) outcomes came too fast and are left out; filter them."
                )
            }
        }
        if queues.isEmpty, names.isEmpty || names.contains("circuit") {
            let found = try await admin.transitions(after: newestTransition - Self.overlap)
            for (id, transition) in found where seenTransitions.insert(id).inserted {
                newestTransition = max(newestTransition, id)
                guard kinds.isEmpty || kinds.contains(transition.circuit.kind) else { continue }
                lines.append((transition.at, isJSON ? transition.outcomeJSON.lineText : transition.outcomeLine))
            }
            let oldest = newestTransition - 2 * Self.overlap
            seenTransitions = seenTransitions.filter { $0 > oldest }
        }
        return lines.sorted { $0.at < $1.at }.map(\.line)
    }

    /// Unsubscribes, so that workers stop recording outcomes for this follower.
    func end() async throws {
        try await admin.unsubscribe(subscriber)
    }
}
