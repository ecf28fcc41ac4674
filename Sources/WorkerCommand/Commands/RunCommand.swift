import ArgumentParser
import Breakwater
import BreakwaterMetrics
import BreakwaterOTLP
import Foundation
import Logging
import Metrics
import Tracing

/// `worker run`: claims jobs and runs their handlers until a signal stops it.
struct RunCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "run",
            abstract: "Run a worker: claim jobs, run their handlers, until it is stopped.",
            discussion: """
                Examples:

                  worker run --config worker.yaml
                  worker run --config worker.yaml --check
                  BREAKWATER_CONCURRENCY=50 worker run --config worker.yaml --queues default,bulk

                A small configuration:

                  database: postgresql:///app
                  handlers:
                    file.digest:
                      exec: { command: [sha256sum] }
                      retry: { max_attempts: 5, base: 1s, cap: 10m }

                Flags go before the environment (BREAKWATER_CONCURRENCY, BREAKWATER_QUEUES, …), and the environment \
                goes before the file. DATABASE_URL counts where none of them names a database.

                On SIGHUP it reads log_level and log_levels again.

                On SIGTERM or SIGINT it claims no more, lets handlers finish for shutdown_grace, releases the rest \
                without costing them an attempt, and exits 0. A second signal ends it at once.
                """
        )
    }

    @Option(name: .shortAndLong, help: ArgumentHelp("The configuration file, in YAML.", valueName: "path"))
    var config: String?

    @Flag(help: "Check the configuration, print what would hold with secrets masked, and exit.")
    var check = false

    @OptionGroup var database: DatabaseOptions

    @Option(help: ArgumentHelp("The queues whose jobs it takes.", valueName: "name,…"))
    var queues: String?

    @Option(help: "How many handlers run at once.")
    var concurrency: String?

    @Option(help: ArgumentHelp("A worker silent for this long loses its jobs.", valueName: "duration"))
    var lease: String?

    @Option(help: ArgumentHelp("How long handlers may go on after a signal.", valueName: "duration"))
    var shutdownGrace: String?

    @Option(help: ArgumentHelp("How often an idle worker looks for jobs.", valueName: "duration"))
    var pollInterval: String?

    @Flag(inversion: .prefixedNo, help: "Listen for wake-ups while idle.")
    var listen: Bool?

    @Option(
        help: ArgumentHelp("The database without the pooler in front of it, to listen there.", valueName: "conninfo")
    )
    var listenDatabase: String?

    @Option(help: "A name that people recognise the worker by.")
    var name: String?

    @Option(help: ArgumentHelp("trace, debug, info, notice, warning, error or critical.", valueName: "level"))
    var logLevel: String?

    @Option(help: ArgumentHelp("Other levels for some loggers.", valueName: "label=level,…"))
    var logLevels: String?

    @Option(help: ArgumentHelp("text, json, or auto: text on a terminal.", valueName: "format"))
    var logFormat: String?

    @Option(
        help: ArgumentHelp("Serve /metrics, /livez and /readyz here, such as 127.0.0.1:9464.", valueName: "address")
    )
    var metrics: String?

    @Option(
        help: ArgumentHelp(
            "Send spans to this OpenTelemetry collector. Else as the OTEL_… variables say.",
            valueName: "url"
        )
    )
    var traces: String?

    @Option(
        help: ArgumentHelp(
            "Serve the dashboard too, such as on 127.0.0.1:8090. The configuration says who gets in.",
            valueName: "address"
        )
    )
    var dashboard: String?

    /// The flags that were given, by key. Their texts are parsed by the same rules as those of the file.
    var flags: [String: SettingText] {
        let one = [
            "database": database.database, "concurrency": concurrency, "lease": lease, "shutdown_grace": shutdownGrace,
            "poll_interval": pollInterval, "listen": listen.map { "\($0)" }, "listen_database": listenDatabase,
            "name": name, "log_level": logLevel, "log_format": logFormat, "metrics": metrics, "traces": traces,
        ].compactMapValues { $0.map { SettingText.one($0) } }
        let lists = ["queues": queues, "log_levels": logLevels].compactMapValues { list in
            list.map { list in
                SettingText.list(list.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) })
            }
        }
        return one.merging(lists) { $1 }
    }

    func validate() throws {
        if config == nil, WorkerCommand.handlers.isEmpty {
            throw ValidationError("There is no configuration; give --config worker.yaml.")
        }
    }

    func run() async throws {
        ProcessMemory.refuseDumps(environment: ProcessInfo.processInfo.environment)
        let loader = ConfigurationLoader(
            flags: flags,
            environment: ProcessInfo.processInfo.environment,
            registered: WorkerCommand.handlers
        )
        let loaded: LoadedConfiguration
        do {
            loaded = try loader.load(try config.map { try ConfigurationFile(path: $0) })
        } catch let error as ConfigurationError {
            throw CommandFailure(.configuration, error.description)
        }
        if check {
            for warning in loaded.warnings { Terminal.complain("warning: \(warning)") }
            Terminal.write(String(loaded.effectiveText.dropLast()))
            return
        }
        let levels = LogLevels(loaded.logLevel, loaded.logLevels)
        loaded.logFormat.bootstrap(levels)
        let logger = Logger(label: "breakwater")
        for warning in loaded.warnings { logger.warning("\(warning)") }
        var process = WorkerProcess(configuration: loaded.worker, logger: logger)
        process.services = WorkerCommand.services
        if let address = loaded.metrics {
            let registry = MetricsRegistry()
            MetricsSystem.bootstrap(registry)
            process.metrics = (address, registry)
        }
        process.dashboard = try dashboard.map {
            try loaded.dashboard(at: $0, logger: Logger(label: "breakwater.dashboard"))
        }
        process.notify = loaded.notify
        process.spans = try spans(to: loaded.traces)
        process.onHangup = {
            do {
                let loaded = try loader.load(try config.map { try ConfigurationFile(path: $0) })
                levels.change(to: loaded.logLevel, loaded.logLevels)
                logger.notice("took the log levels from the configuration; the rest of it holds from the next start")
            } catch {
                logger.error("the configuration is wrong, and the log levels stay", metadata: ["error": "\(error)"])
            }
        }
        try await process.run()
    }

    /// Sets up tracing if it is configured.
    private func spans(to endpoint: String?) throws -> OTLPExporter? {
        guard
            let configuration = OTLPConfiguration(
                environment: ProcessInfo.processInfo.environment,
                endpoint: endpoint
            )
        else { return nil }
        let logger = Logger(label: "breakwater.traces")
        for warning in configuration.warnings { logger.warning("\(warning)") }
        do {
            let exporter = try OTLPExporter(configuration, logger: logger)
            InstrumentationSystem.bootstrap(exporter.tracer)
            return exporter
        } catch {
            throw CommandFailure(.configuration, "traces cannot be sent: \(error)")
        }
    }
}
