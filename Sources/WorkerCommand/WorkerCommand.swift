package import ArgumentParser
public import Breakwater
import Foundation
public import ServiceLifecycle

/// The command line `worker`, for executables that link handlers written in Swift.
///
/// ```swift
/// import Breakwater
/// import WorkerCommand
///
/// await WorkerCommand.main(handlers: [
///     HandlerRegistration(kind: "email.send", handler: SendEmail())
/// ])
/// ```
///
/// The executable then has every command that `worker` has, except `bench`: `run`, `migrate`, `enqueue`, `status`, ….
/// A configuration file can add handlers, and settings for those registered here under `swift: {}`.
public enum WorkerCommand {
    /// The version of Breakwater. `--version` prints it, in the program `worker` with the commit.
    public static var version: String { breakwaterVersion }

    /// What `--version` prints: the version, and the commit if the executable knows it.
    static var versionText: String { version + (commit.map { " (commit \($0))" } ?? "") }

    /// The handlers that the executable registered.
    @TaskLocal static var handlers: [HandlerRegistration] = []
    /// The services that the executable runs beside the worker.
    @TaskLocal static var services: [any Service] = []
    /// The subcommands that the executable adds to those of this library.
    @TaskLocal static var addedSubcommands: [any ParsableCommand.Type] = []
    /// The commit from which the executable was built, if it knows it.
    @TaskLocal static var commit: String?

    /// Runs the command that the process's arguments name, and ends the process with its exit status.
    ///
    /// - Parameters:
    ///   - handlers: The handlers written in Swift, each kind once. Defaults to none.
    ///   - services: Services that `run` runs beside the worker, such as an HTTP server that enqueues jobs, or a client
    ///     that handlers use. They start before the worker, and are shut down once it has ended. A service may return
    ///     earlier. If one throws, the worker is drained and the process ends with status 70. Other commands do not run
    ///     them. Defaults to none.
    public static func main(handlers: [HandlerRegistration] = [], services: [any Service] = []) async -> Never {
        await main(handlers: handlers, services: services, addedSubcommands: [])
    }

    /// Runs the command that the process's arguments name, which may be one that only this executable has.
    ///
    /// - Parameters:
    ///   - handlers: The handlers written in Swift. Defaults to none.
    ///   - services: What `run` runs beside the worker. Defaults to none.
    ///   - commit: The commit from which the executable was built, for `--version`. Defaults to none.
    ///   - addedSubcommands: The executable's own subcommands. The help lists them last.
    package static func main(
        handlers: [HandlerRegistration] = [],
        services: [any Service] = [],
        commit: String? = nil,
        addedSubcommands: [any ParsableCommand.Type]
    ) async -> Never {
        // If the reader of the output is gone, the write fails instead of a signal ending the process.
        signal(SIGPIPE, SIG_IGN)
        StandardOutput.reserveClosedStreams()
        InitProcess.serveIfFirst()
        // The arguments are read before the passwords in them are overwritten.
        let arguments = ProcessArguments.words
        guard ProcessTitle.argumentsAreText else {
            Terminal.complain("\(RootCommand.executableName): the arguments are not UTF-8 throughout.")
            exit(CommandFailure.Status.usage.rawValue)
        }
        ProcessTitle.maskPasswords()
        let status = await $handlers.withValue(handlers) {
            await $services.withValue(services) {
                await $addedSubcommands.withValue(addedSubcommands) {
                    await $commit.withValue(commit) { await run(arguments) }
                }
            }
        }
        let delivery = deliverOutput()
        exit(status == 0 ? delivery : status)
    }

    /// Flushes standard output.
    ///
    /// - Returns: The exit status of the process. It is 0 if the reader has closed the pipe, as `head` does.
    private static func deliverOutput() -> Int32 {
        StandardOutput.flush()
        guard let failure = StandardOutput.failure, failure != EPIPE else { return 0 }
        Terminal.complain(
            """
            \(RootCommand.executableName): standard output could not be written: \(String(cString: strerror(failure))). \
            What the command was to do is done; only its answer is lost.
            """
        )
        return CommandFailure.Status.output.rawValue
    }

    /// Runs one command.
    ///
    /// - Parameter arguments: The arguments without the executable's name.
    /// - Returns: The exit status of the process.
    static func run(_ arguments: [String]) async -> Int32 {
        do {
            // The log is flushed before the command's last message is printed.
            defer { LogQueue.standardError.flush(upTo: .seconds(1)) }
            var command = try RootCommand.parseAsRoot(arguments)
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
            return 0
        } catch let failure as CommandFailure {
            Terminal.complain("\(RootCommand.executableName): \(failure.message)")
            return failure.status.rawValue
        } catch {
            let status = RootCommand.exitCode(for: error)
            let isHelp = status == .success
            let isUnexpected = status == .failure && !(error is ExitCode)
            let message =
                isUnexpected
                ? "\(RootCommand.executableName): unexpected: \(error)"
                : RootCommand.fullMessage(for: error)
            if isHelp {
                Terminal.write(message)
            } else if !message.isEmpty {
                Terminal.complain(message)
            }
            return isUnexpected ? CommandFailure.Status.unexpected.rawValue : status.rawValue
        }
    }
}
