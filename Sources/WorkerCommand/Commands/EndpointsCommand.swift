import ArgumentParser
import BreakwaterAdmin

/// `worker endpoints`: lists, shows and changes the endpoints of customers.
struct EndpointsCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "endpoints",
            abstract: "Show and change endpoints: the URLs of customers, to which jobs are sent by name.",
            discussion: """
                Examples:

                  worker endpoints set acme --url https://hooks.acme.example/in --new-secret
                  worker endpoints test acme
                  worker endpoints --troubled
                  worker endpoints disable acme --reason "they asked us to stop"
                  worker endpoints enable acme
                  worker endpoints redeliver acme --since 2d

                A handler with  http: { endpoint: $.endpoint }  sends each job to the endpoint that its payload names. \
                Secrets are shown once, when they are made.
                """,
            subcommands: [
                List.self, Show.self, Set.self, Disable.self, Enable.self, Remove.self, Redeliver.self, Test.self,
            ],
            defaultSubcommand: List.self
        )
    }
}

/// The name of one endpoint.
struct EndpointName: ParsableArguments {
    @Argument(help: "The endpoint's name.")
    var name: String

    func validate() throws {
        guard (1...200).contains(name.utf8.count) else {
            throw ValidationError("The name has \(name.utf8.count) bytes; give 1 to 200.")
        }
    }
}

extension EndpointsCommand {
    /// `worker endpoints list`.
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract: "List endpoints by name.",
            discussion: """
                Example:

                  worker endpoints list --troubled --json

                HELD: jobs that wait behind its circuits. URLs are shown without their query.
                """
        )

        @Flag(help: "Only those that are disabled, or whose deliveries fail.")
        var troubled = false

        @Option(help: "Only those whose name or URL contains this text.")
        var search: String?

        @Option(help: "Only those whose name comes after this one.")
        var after: String?

        @OptionGroup var most: MostShown
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let endpoints = try await AdminDatabase.with(database.database) {
                try await $0.endpoints(containing: search, after: after, isTroubled: troubled, limit: most.limit)
            }
            if output.json {
                Terminal.write(.array(endpoints.map(\.json)))
            } else if endpoints.isEmpty {
                Terminal.write("There are no endpoints\(troubled || search != nil || after != nil ? " of these" : "").")
            } else {
                Terminal.write(EndpointStatus.table(endpoints))
                if endpoints.count == most.limit, let last = endpoints.last {
                    Terminal.complain(
                        "Only \(most.limit) are shown; --limit shows more, and --after '\(last.name)' the next."
                            .escapingControlCharacters
                    )
                }
            }
        }
    }

    /// `worker endpoints show`.
    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show",
            abstract: "Show one endpoint: its state, its rule, and its last failure. Secrets are not shown.",
            discussion: "Example:\n\n  worker endpoints show acme"
        )

        @OptionGroup var endpoint: EndpointName
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let status = try await AdminDatabase.with(database.database) { admin in
                guard let status = try await admin.endpoint(endpoint.name) else {
                    throw CommandFailure.noEndpoint(endpoint.name)
                }
                return status
            }
            if output.json {
                Terminal.write(status.json)
            } else {
                Terminal.write(details: status.details)
            }
        }
    }

    /// `worker endpoints disable`.
    struct Disable: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "disable",
            abstract: "Stop deliveries to an endpoint. Its jobs wait, or become dead letters, as the handler says.",
            discussion: "Example:\n\n  worker endpoints disable acme --reason \"their host is for sale\""
        )

        @OptionGroup var endpoint: EndpointName
        @OptionGroup var explanation: Explanation
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            try await AdminDatabase.with(database.database) { admin in
                guard
                    try await admin.disableEndpoint(
                        endpoint.name,
                        reason: explanation.reason,
                        actor: explanation.who
                    )
                else { throw CommandFailure.noEndpoint(endpoint.name) }
            }
            endpoint.say("is disabled", "disabled", output)
        }
    }

    /// `worker endpoints enable`.
    struct Enable: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "enable",
            abstract: "Let a disabled endpoint have deliveries again; its held jobs go on.",
            discussion: "Example:\n\n  worker endpoints enable acme"
        )

        @OptionGroup var endpoint: EndpointName
        @OptionGroup var remark: Remark
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            try await AdminDatabase.with(database.database) { admin in
                let wasDisabled = try await admin.enableEndpoint(
                    endpoint.name,
                    reason: remark.reason,
                    actor: remark.who
                )
                guard !wasDisabled else { return }
                guard try await admin.endpoint(endpoint.name) != nil else {
                    throw CommandFailure.noEndpoint(endpoint.name)
                }
                throw CommandFailure(.refused, "the endpoint '\(endpoint.name)' is not disabled.")
            }
            endpoint.say("is enabled", "enabled", output)
        }
    }

    /// `worker endpoints remove`.
    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "remove",
            abstract: "Delete an endpoint. Its waiting jobs become dead letters when they run.",
            discussion: "Example:\n\n  worker endpoints remove acme --reason \"contract ended\""
        )

        @OptionGroup var endpoint: EndpointName
        @OptionGroup var remark: Remark
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            try await AdminDatabase.with(database.database) { admin in
                guard try await admin.removeEndpoint(endpoint.name, reason: remark.reason, actor: remark.who) else {
                    throw CommandFailure.noEndpoint(endpoint.name)
                }
            }
            endpoint.say("is removed", "removed", output)
        }
    }

    /// `worker endpoints redeliver`.
    struct Redeliver: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "redeliver",
            abstract: "Send an endpoint the jobs again that became dead letters since a time, or one of them.",
            discussion: """
                Examples:

                  worker endpoints redeliver acme --since 2d
                  worker endpoints redeliver acme --job 4711

                A redelivered job has the same webhook-id, so a receiver recognises what it has already. What was \
                delivered is not sent again: a job that is done is deleted. Those whose unique key a newer job has \
                taken stay dead letters. Jobs that die again meanwhile are not sent again.
                """
        )

        @OptionGroup var endpoint: EndpointName

        @Option(help: "Those that died at most so long ago, such as 2d.")
        var since: DurationArgument?

        @Option(help: "This one.")
        var job: Int64?

        @Option(help: "The most to send again.")
        var limit = 100_000

        @OptionGroup var remark: Remark
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func validate() throws {
            switch (since, job) {
            case (nil, nil): throw ValidationError("Say which: --since 2d, or --job with an id.")
            case (.some, .some): throw ValidationError("--since and --job are both given; give one of them.")
            default: break
            }
            guard limit > 0 else { throw ValidationError("--limit \(limit) is not allowed; give at least 1.") }
        }

        func run() async throws {
            let count = try await AdminDatabase.with(database.database) { admin in
                guard try await admin.endpoint(endpoint.name) != nil else {
                    throw CommandFailure.noEndpoint(endpoint.name)
                }
                if let job {
                    if try await admin.isDeadLetter(job, of: endpoint.name) == false {
                        throw CommandFailure(
                            .refused,
                            "the dead letter \(job) is not one of the endpoint '\(endpoint.name)'.\n"
                                + "Run: worker dead-letters show \(job)"
                        )
                    }
                    guard try await admin.redrive(id: job, reason: remark.reason, actor: remark.who) else {
                        throw CommandFailure.noDeadLetters([job])
                    }
                    return 1
                }
                // Many are put back by portions, each committed by itself. Those that die again meanwhile are not put
                // back again.
                let now = try await admin.databaseTime()
                var total = 0
                while total < limit {
                    let done = try await admin.redeliver(
                        to: endpoint.name,
                        since: since?.duration ?? .zero,
                        before: now,
                        limit: min(1000, limit - total),
                        reason: remark.reason,
                        actor: remark.who
                    )
                    guard done > 0 else { break }
                    total += done
                }
                return total
            }
            if output.json {
                Terminal.write(.object(["name": .string(endpoint.name), "redelivered": .integer(Int64(count))]))
            } else {
                let noun = count == 1 ? "job is" : "jobs are"
                Terminal.write("\(count) \(noun) sent to '\(endpoint.name)' again.".escapingControlCharacters)
            }
        }
    }
}

extension EndpointName {
    /// Says what was done.
    func say(_ done: String, _ key: String, _ output: OutputOptions) {
        if output.json {
            Terminal.write(.object(["name": .string(name), key: .bool(true)]))
        } else {
            Terminal.write("The endpoint '\(name)' \(done).".escapingControlCharacters)
        }
    }
}

extension CommandFailure {
    static func noEndpoint(_ name: String) -> CommandFailure {
        CommandFailure(.refused, "there is no endpoint '\(name)'.\nRun: worker endpoints list")
    }
}
