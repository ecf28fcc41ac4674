import ArgumentParser
import Breakwater
import BreakwaterAdmin

/// `worker limits`: shows and changes limits, ordered keys and fair shares.
struct LimitsCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "limits",
            abstract: "Show and set limits on how many jobs run at once or start in a time, in the whole fleet.",
            discussion: """
                Examples:

                  worker limits
                  worker limits show api.call
                  worker limits set api.call --concurrency 5 --rate 10/s --reason "their new contract"
                  worker limits set "per customer" --key $.customer --concurrency 1 --kind api.call --reason "one each"
                  worker limits set "per customer" --value gold --concurrency 5 --reason "they pay for it"
                  worker limits remove api.call --reason "the contract ended"
                  worker limits weight api.call gold-customer 3

                Limits of the configuration, ordered keys and fair shares are listed too. A limit that is set here holds \
                over the configuration until it is removed.
                """,
            subcommands: [List.self, Show.self, Set.self, Remove.self, Weight.self],
            defaultSubcommand: List.self
        )
    }
}

extension LimitsCommand {
    /// `worker limits list`.
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract: "List limits, ordered keys and fair shares, and what they hold back.",
            discussion: "Example:\n\n  worker limits list --json"
        )

        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let limits = try await AdminDatabase.with(database.database) { try await $0.limits() }
            if output.json {
                Terminal.write(.array(limits.map(\.json)))
            } else if limits.isEmpty {
                Terminal.write("There are no limits.")
            } else {
                Terminal.write(LimitStatus.table(limits))
            }
        }
    }

    /// `worker limits show`.
    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show",
            abstract: "Show one limit: what it allows, what runs under it, and who set it.",
            discussion: "Example:\n\n  worker limits show api.call"
        )

        @Argument(help: "Its name.")
        var name: String

        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let (limits, keys) = try await AdminDatabase.with(database.database) { admin in
                (try await admin.limits(named: name), try await admin.keyLimits(of: name, limit: 1000))
            }
            guard !limits.isEmpty else { throw CommandFailure.noLimit(name) }
            if output.json {
                Terminal.write(
                    .array(
                        limits.map { limit in
                            guard limit.type == "limit" else { return limit.json }
                            return .object(limit.json.members + [.init("values", .array(keys.map(\.json)))])
                        }
                    )
                )
                return
            }
            for (index, limit) in limits.enumerated() {
                if index > 0 { Terminal.write("") }
                Terminal.write(details: limit.details)
            }
            guard !keys.isEmpty else { return }
            Terminal.write("\nValues of its key with a limit of their own:")
            Terminal.write(
                Table(
                    columns: [.long("VALUE"), .text("ALLOWS"), .text("SET BY"), .long("REASON")],
                    rows: keys.map { [$0.value, $0.allows, $0.actor ?? "?", $0.reason ?? ""] }
                )
            )
        }
    }

    /// `worker limits set`.
    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "set",
            abstract: "Set or change a limit; it holds from the next claim on.",
            discussion: """
                Examples:

                  worker limits set api.call --concurrency 5 --reason "their new contract"
                  worker limits set crm --rate 600/min --burst 20 --kind crm.update --kind crm.delete --reason "their quota"
                  worker limits set "per customer" --value gold --concurrency 5 --reason "they pay for it"

                With --value, only that value of the limit's key gets these numbers, in place of the limit's own. A limit applies to the kind of its name, to the kinds whose configuration names it, and to those of \
                --kind. What is left out is not limited; --kind keeps its value when it is left out.
                """
        )

        @Argument(help: "Its name: a kind, or a name that kinds share.")
        var name: String

        @Option(help: "How many jobs may run at once.")
        var concurrency: Int?

        @Option(help: "How many jobs may start in a time, such as 10/s or 600/min.")
        var rate: String?

        @Option(help: "How many jobs may start at once after a pause. Else what a tenth of a second allows.")
        var burst: Int?

        @Option(help: "A path of the payload, such as $.customer: each value has a limit of its own.")
        var key: String?

        @Option(help: "A value of the key of a limit that exists already: it gets a limit of its own.")
        var value: String?

        @Option(name: .customLong("kind"), help: "A kind that it applies to; may be given several times.")
        var kinds: [String] = []

        @Option(help: "A path of the payload that says for how many a job counts.")
        var weight: String?

        @OptionGroup var explanation: Explanation
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func validate() throws {
            guard value == nil || key == nil && weight == nil && kinds.isEmpty else {
                throw ValidationError("--value changes one value of a limit; leave out --key, --kind and --weight.")
            }
        }

        func run() async throws {
            var settings = LimitSettings()
            settings.concurrency = concurrency
            settings.rate = try rate.map { try LimitSettings.readRate($0) }
            settings.burst = burst
            if let value { return try await set(settings, of: value) }
            settings.key = key
            settings.kinds = kinds.isEmpty ? nil : kinds
            settings.weight = weight
            let limits = try await AdminDatabase.with(database.database) { [settings] admin in
                try await admin.setLimit(name, settings, reason: explanation.reason, actor: explanation.who)
                return try await admin.limits(named: name).filter { $0.type == "limit" }
            }
            if output.json {
                Terminal.write(.array(limits.map(\.json)))
                return
            }
            for limit in limits {
                Terminal.write("The limit '\(name)' allows \(limit.allows).".escapingControlCharacters)
                if limit.kinds.isEmpty {
                    Terminal.complain(
                        "It applies to no kind that a worker handles; is the name right? Else give --kind."
                    )
                }
            }
        }
    }

    /// `worker limits remove`.
    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "remove",
            abstract: "Remove a limit; that of the configuration, if there is one, holds again.",
            discussion: "Example:\n\n  worker limits remove api.call --reason \"the contract ended\""
        )

        @Argument(help: "Its name.")
        var name: String

        @Option(help: "A value of its key: only the limit of that value is removed.")
        var value: String?

        @OptionGroup var remark: Remark
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            if let value { return try await remove(value) }
            let (wasThere, left) = try await AdminDatabase.with(database.database) { admin in
                let removed = try await admin.removeLimit(name, reason: remark.reason, actor: remark.who)
                return (removed, try await admin.limits(named: name).first { $0.type == "limit" })
            }
            guard wasThere else { throw CommandFailure.noLimit(name) }
            if output.json {
                Terminal.write(.object(["name": .string(name), "removed": true, "holds_now": left?.json ?? .null]))
            } else if let left {
                let text = "The limit '\(name)' is that of the configuration again: \(left.allows)."
                Terminal.write(text.escapingControlCharacters)
            } else {
                Terminal.write("The limit '\(name)' is removed.".escapingControlCharacters)
            }
        }
    }

    /// `worker limits weight`.
    struct Weight: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "weight",
            abstract: "Set a tenant's weight in the fair shares of a kind; without a number, remove it.",
            discussion:
                "Examples:\n\n  worker limits weight api.call gold-customer 3\n  worker limits weight api.call gold-customer"
        )

        @Argument(help: "The kind.")
        var kind: String

        @Argument(help: "The tenant: a value at the path of the kind's share.")
        var tenant: String

        @Argument(help: "The weight, above 0. A tenant without one has 1.")
        var weight: Double?

        @OptionGroup var remark: Remark
        @OptionGroup var database: DatabaseOptions

        func run() async throws {
            try await AdminDatabase.with(database.database) {
                try await $0.setShareWeight(kind, tenant, weight, reason: remark.reason, actor: remark.who)
            }
            let text = weight.map { "has the weight \($0.shortText)" } ?? "has the weight 1 again"
            Terminal.write("The tenant '\(tenant)' of '\(kind)' \(text).".escapingControlCharacters)
        }
    }
}

extension LimitsCommand.Set {
    /// Sets the limit of one value of the key.
    private func set(_ settings: LimitSettings, of value: String) async throws {
        let set = try await AdminDatabase.with(database.database) { [settings] admin in
            try await admin.setKeyLimit(name, value, settings, reason: explanation.reason, actor: explanation.who)
            return try await admin.keyLimits(of: name, limit: 1000).first { $0.value == value }
        }
        if output.json {
            Terminal.write(set?.json ?? .null)
        } else {
            let allows = set.map { " allows \($0.allows)" } ?? " is set"
            Terminal.write("The limit '\(name)' of '\(value)'\(allows).".escapingControlCharacters)
        }
    }
}

extension LimitsCommand.Remove {
    /// Removes the limit of one value of the key.
    private func remove(_ value: String) async throws {
        let wasThere = try await AdminDatabase.with(database.database) {
            try await $0.removeKeyLimit(name, value, reason: remark.reason, actor: remark.who)
        }
        guard wasThere else {
            throw CommandFailure(
                .refused,
                "the limit '\(name)' has none of its own for '\(value)'.\nRun: worker limits show '\(name)'"
            )
        }
        if output.json {
            Terminal.write(.object(["name": .string(name), "value": .string(value), "removed": true]))
        } else {
            Terminal.write(
                "The limit '\(name)' is for '\(value)' what it is for others again.".escapingControlCharacters
            )
        }
    }
}

extension LimitSettings {
    /// Reads a rate such as `600/min`.
    static func readRate(_ text: String) throws -> (count: Double, seconds: Double) {
        do {
            let rate = try ValueRule.rate.read(text)
            return (rate.count, rate.period / .seconds(1))
        } catch {
            throw CommandFailure(.usage, "--rate: \(error.message)")
        }
    }
}

extension CommandFailure {
    fileprivate static func noLimit(_ name: String) -> CommandFailure {
        CommandFailure(.refused, "there is no limit '\(name)'.\nRun: worker limits list")
    }
}
