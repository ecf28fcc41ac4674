import ArgumentParser
import BreakwaterAdmin

/// `worker drain`: makes workers stop claiming.
struct DrainCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "drain",
            abstract: "Let workers finish what they run and claim nothing more, so that they can be stopped.",
            discussion: """
                Examples:

                  worker drain alpha --reason "its host is replaced"
                  worker drain 17 18 --reason "their hosts are replaced"

                What a worker runs goes on, and its process too. When it runs nothing any more shows in: worker status
                """
        )
    }

    @OptionGroup var selection: WorkerSelection
    @OptionGroup var explanation: Explanation
    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        try await selection.apply(in: database, output, "drains: it claims nothing more", else: "is gone") {
            try await $0.drain(worker: $1.id, reason: explanation.reason, actor: explanation.who)
        }
    }
}

/// `worker undrain`: makes drained workers claim again.
struct UndrainCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "undrain",
            abstract: "Let drained workers claim again.",
            discussion: """
                Example:

                  worker undrain alpha
                """
        )
    }

    @OptionGroup var selection: WorkerSelection
    @OptionGroup var remark: Remark
    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        try await selection.apply(in: database, output, "claims again", else: "is not drained") {
            try await $0.undrain(worker: $1.id, reason: remark.reason, actor: remark.who)
        }
    }
}

/// The workers that a command changes.
struct WorkerSelection: ParsableArguments {
    @Argument(help: "Their names or numbers, as worker status shows them. A name means all that have it.")
    var workers: [String]

    /// Changes each worker and prints which were changed.
    ///
    /// - Parameters:
    ///   - database: The database in which the workers are registered.
    ///   - output: The format in which the result is printed.
    ///   - done: A verb phrase for the message about a changed worker.
    ///   - refusal: The reason for the message about a worker that cannot be changed.
    ///   - each: Changes one worker; returns false if that is impossible.
    /// - Throws: ``CommandFailure`` when a worker does not exist or cannot be changed, after all others were changed.
    func apply(
        in database: DatabaseOptions,
        _ output: OutputOptions,
        _ done: String,
        else refusal: String,
        each: (AdminDatabase, WorkerStatus) async throws -> Bool
    ) async throws {
        var changed: [WorkerStatus] = []
        var refused: [String] = []
        try await AdminDatabase.with(database.database) { admin in
            let registered = try await admin.workers()
            for wanted in workers {
                let found = Self.find(wanted, among: registered)
                if found.isEmpty { refused.append("there is no worker '\(wanted)'.\nRun: worker status") }
                for worker in found where !changed.contains(where: { $0.id == worker.id }) {
                    if try await each(admin, worker) {
                        changed.append(worker)
                    } else {
                        refused.append("\(worker.title) \(refusal).")
                    }
                }
            }
        }
        if output.json {
            Terminal.write(.object(["changed": .array(changed.map { .integer($0.id) })]))
        } else {
            for worker in changed { Terminal.write("\(worker.title) \(done).".escapingControlCharacters) }
        }
        if !refused.isEmpty { throw CommandFailure(.refused, refused.joined(separator: "\n")) }
    }

    /// The workers with this name, or else the worker with this number.
    static func find(_ wanted: String, among workers: [WorkerStatus]) -> [WorkerStatus] {
        let named = workers.filter { $0.name == wanted }
        return named.isEmpty ? workers.filter { Int64(wanted) == $0.id } : named
    }
}
