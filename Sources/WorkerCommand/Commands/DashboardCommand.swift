import ArgumentParser
import Breakwater
import BreakwaterDashboard
import Foundation
import Libpq
import Logging
import ServiceLifecycle

/// `worker dashboard`: serves the dashboard, or hashes a password for it.
struct DashboardCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "dashboard",
            abstract:
                "Serve the dashboard: circuits, queues, jobs, dead letters and workers, to look at and to act on.",
            discussion: """
                Examples:

                  worker dashboard hash-password
                  worker dashboard --config worker.yaml
                  worker dashboard --config worker.yaml --listen 127.0.0.1:8090

                The configuration names those who get in:

                  database: postgresql:///app
                  dashboard:
                    users:
                      ann: { role: operator, password: "$scrypt$…" }
                      bob: { role: read-only, password: "$scrypt$…" }

                It listens on 127.0.0.1:8090 unless told otherwise, and has no TLS of its own: let a reverse proxy \
                that has it stand in front for others than this machine. The file may be that of a worker; what \
                is in it for workers does not matter here.
                """,
            subcommands: [Serve.self, HashPassword.self],
            defaultSubcommand: Serve.self
        )
    }

    /// `worker dashboard serve`, which is also what `worker dashboard` runs.
    struct Serve: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "serve",
            abstract: "Serve the dashboard until it is stopped. This is what `dashboard` alone does.",
            discussion: "Example:\n\n  worker dashboard --config worker.yaml"
        )

        @Option(name: .shortAndLong, help: ArgumentHelp("The configuration file, in YAML.", valueName: "path"))
        var config: String

        @OptionGroup var database: DatabaseOptions

        @Option(help: ArgumentHelp("Where to listen, such as 127.0.0.1:8090.", valueName: "address"))
        var listen: String?

        @Option(help: ArgumentHelp("trace, debug, info, notice, warning, error or critical.", valueName: "level"))
        var logLevel: String?

        @Option(help: ArgumentHelp("text, json, or auto: text on a terminal.", valueName: "format"))
        var logFormat: String?

        func run() async throws {
            ProcessMemory.refuseDumps(environment: ProcessInfo.processInfo.environment)
            let flags = [
                "database": database.database, "log_level": logLevel, "log_format": logFormat,
            ].compactMapValues { $0.map { SettingText.one($0) } }
            let loader = ConfigurationLoader(
                flags: flags,
                environment: ProcessInfo.processInfo.environment,
                needsHandlers: false
            )
            let loaded: LoadedConfiguration
            do {
                loaded = try loader.load(try ConfigurationFile(path: config))
            } catch let error as ConfigurationError {
                throw CommandFailure(.configuration, error.description)
            }
            loaded.logFormat.bootstrap(LogLevels(loaded.logLevel, loaded.logLevels))
            let logger = Logger(label: "breakwater.dashboard")
            for warning in loaded.warnings { logger.warning("\(warning)") }
            let dashboard = try loaded.dashboard(at: listen, logger: logger)
            let services: [ServiceGroupConfiguration.ServiceConfiguration] = [
                .init(
                    service: dashboard,
                    successTerminationBehavior: .gracefullyShutdownGroup,
                    failureTerminationBehavior: .cancelGroup,
                    serviceName: "dashboard"
                ),
                .init(
                    service: StopSignals(),
                    successTerminationBehavior: .gracefullyShutdownGroup,
                    failureTerminationBehavior: .gracefullyShutdownGroup,
                    serviceName: "signals"
                ),
            ]
            do {
                try await ServiceGroup(
                    configuration: ServiceGroupConfiguration(services: services, logger: logger)
                ).run()
            } catch let error as DashboardError {
                throw CommandFailure(.configuration, "\(error); give another address with --listen")
            }
        }
    }

    /// `worker dashboard hash-password`.
    struct HashPassword: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "hash-password",
            abstract: "Hash a password for the configuration.",
            discussion: """
                Examples:

                  worker dashboard hash-password
                  worker dashboard hash-password < password.txt

                It asks for the password, or reads the first line of standard input, and prints what to write into the \
                file. Quote it there.
                """
        )

        func run() throws {
            let password = try Self.read()
            guard password.utf8.count >= 8 else {
                throw CommandFailure(.usage, "the password is too short; give at least 8 characters")
            }
            guard password.utf8.count <= 1024 else {
                throw CommandFailure(.usage, "the password is too long; give at most 1024 bytes")
            }
            Terminal.write(PasswordHash(password: password).text)
        }

        private static func read() throws -> String {
            guard isatty(STDIN_FILENO) == 1 else { return readLine() ?? "" }
            return try withoutEcho("Password: ")
        }

        /// Prompts on the terminal with echo turned off.
        private static func withoutEcho(_ prompt: String) throws -> String {
            FileHandle.standardError.write(Data(prompt.utf8))
            var before = termios()
            tcgetattr(STDIN_FILENO, &before)
            var quiet = before
            quiet.c_lflag &= ~tcflag_t(ECHO)
            tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet)
            defer {
                tcsetattr(STDIN_FILENO, TCSAFLUSH, &before)
                FileHandle.standardError.write(Data("\n".utf8))
            }
            return readLine() ?? ""
        }
    }
}

extension LoadedConfiguration {
    /// The dashboard that the configuration file describes.
    ///
    /// - Parameter address: The address to listen on; nil for the one in the file.
    /// - Throws: ``CommandFailure`` when the file has no `dashboard` section, or the address is invalid.
    func dashboard(at address: String?, logger: Logger) throws -> Dashboard {
        guard var configuration = dashboard else {
            throw CommandFailure(
                .configuration,
                """
                the configuration has no 'dashboard': name those who get in, for example
                  dashboard: { users: { ann: { role: operator, password: "…" } } }
                with what this prints: worker dashboard hash-password
                """
            )
        }
        if let address {
            guard let read = DashboardAddress(address) else {
                throw CommandFailure(
                    .usage,
                    "'\(address)' is not allowed; give \(ValueRule<DashboardAddress>.dashboardAddress.allowed)"
                )
            }
            (configuration.host, configuration.port) = (read.host, read.port)
        }
        configuration.database = worker.database
        configuration.database.applicationName = "breakwater-dashboard"
        do {
            return try Dashboard(configuration, logger: logger)
        } catch {
            throw CommandFailure(.configuration, "dashboard: \(error)")
        }
    }
}
