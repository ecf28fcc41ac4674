import Breakwater
import BreakwaterDashboard
import BreakwaterEndpoints
import BreakwaterNotify
import Libpq
import Logging
import Yams

/// A complete and valid configuration.
struct LoadedConfiguration: Sendable {
    /// The worker's configuration.
    var worker: WorkerConfiguration
    /// The dashboard's configuration, if the file has one.
    var dashboard: DashboardConfiguration?
    /// Where incidents are reported, if the file says so.
    var notify: NotificationTarget?
    /// The least important messages that are written.
    var logLevel: Logger.Level
    /// Other levels for some loggers, by label.
    var logLevels: [String: Logger.Level] = [:]
    /// The format of log lines.
    var logFormat: LogFormat
    /// Where metrics and health are served; nil for nowhere.
    var metrics: ListenAddress?
    /// The base URL of the collector that spans are sent to.
    var traces: String?
    /// Warnings about values that are unusual but valid.
    var warnings: [String]
    /// The whole configuration as YAML, with defaults filled in and secrets masked. A comment beside each top-level
    /// value says where it came from.
    var effectiveText: String
    /// The path of every key that is valid for the given kinds and plugins, whether it was given or not.
    var knownKeys: Set<String>
}

/// Reads the configuration from its file, the environment and the flags, in rising order of precedence.
struct ConfigurationLoader {
    /// The values of the command line by key.
    var flags: [String: SettingText] = [:]
    /// All variables of the environment.
    var environment: [String: String] = [:]
    /// The handlers that the executable registers.
    var registered: [HandlerRegistration] = []
    /// Whether a worker is to run. Otherwise `handlers` is not read.
    var needsHandlers = true

    /// Reads the whole configuration. It continues after a problem, so that all problems are reported at once.
    ///
    /// - Parameter file: The parsed file; nil for none, which suffices when the executable registers handlers.
    /// - Throws: ``ConfigurationError`` with every problem.
    func load(_ file: ConfigurationFile?) throws -> LoadedConfiguration {
        let name = file?.name ?? "(no file)"
        let context = ConfigurationContext(file: name, environment: environment)
        let root =
            file?.root.map { ConfigurationSection($0, context: context, path: "", line: 1) }
            ?? ConfigurationSection(
                context: context,
                path: "",
                origin: file == nil ? .code : .file(name: name, line: 1),
                entries: []
            )
        let settings = topLevel(root, context: context)
        let handlersSection = needsHandlers ? root.readSection("handlers") : root.absent("handlers")
        let handlers = needsHandlers ? [HandlerRegistration](handlersSection, registered: registered) : []
        handlersSection.finish()
        root.know(["handlers"])
        let schedules = [Schedule](root)
        if needsHandlers { schedules.warnOfKinds(without: handlers, context) }
        let dashboard = DashboardConfiguration.read(root, database: ConnectionOptions(settings.database))
        let notify = NotificationTarget.read(root)
        root.finish()
        guard context.problems.isEmpty else { throw ConfigurationError(problems: context.sortedProblems) }

        var worker = WorkerConfiguration(
            database: ConnectionOptions(settings.database),
            handlers: handlers,
            name: settings.name
        )
        worker.queues = settings.queues
        worker.concurrency = settings.concurrency
        worker.lease = settings.lease
        worker.shutdownGrace = settings.shutdownGrace
        worker.pollInterval = settings.pollInterval
        worker.listens = settings.listens
        worker.schedules = schedules
        if !settings.listenDatabase.isEmpty { worker.listenDatabase = ConnectionOptions(settings.listenDatabase) }
        do {
            // The file's values were checked above. This finds problems in the settings that Swift code gave.
            if needsHandlers { try worker.validate() }
        } catch {
            throw ConfigurationError(
                problems: error.message.split(separator: "\n").map {
                    ConfigurationProblem(origin: .code, key: "", message: String($0))
                }
            )
        }
        let entries =
            settings.effective + root.effective
            + [EffectiveEntry(key: "handlers", value: .map(handlersSection.effective))]
        return LoadedConfiguration(
            worker: worker,
            dashboard: dashboard,
            notify: notify,
            logLevel: settings.logLevel,
            logLevels: settings.logLevels,
            logFormat: settings.logFormat,
            metrics: settings.metrics,
            traces: settings.traces,
            warnings: unknownVariables() + context.sortedWarnings.map(\.description),
            effectiveText: EffectiveValue.map(entries).lines().joined(separator: "\n") + "\n",
            knownKeys: context.knownKeys
        )
    }

    /// Collects the file's top-level values as texts, and reads them below the environment and the flags.
    private func topLevel(_ root: ConfigurationSection, context: ConfigurationContext) -> TopLevelSettings {
        var texts: [String: SettingText] = [:]
        var origins: [String: SettingOrigin] = [:]
        var substituted: [String: String] = [:]
        for key in TopLevelSettings.keys {
            guard let entry = root.entry(key) else { continue }
            origins[key] = .file(name: context.file, line: entry.line)
            if key == "queues" {
                guard case .sequence(let sequence) = entry.node else {
                    root.report(key, "\(entry.node.description(limit: 60)) is not a list; give [default, bulk]")
                    continue
                }
                texts[key] = .list(
                    sequence.enumerated().compactMap { index, node in
                        root.text(of: node, key: "\(key)[\(index)]", line: entry.line, allowed: "a queue's name")?.value
                    }
                )
            } else if key == "log_levels" {
                guard case .mapping(let mapping) = entry.node else {
                    root.report(
                        key,
                        "\(entry.node.description(limit: 60)) is not a mapping; give { breakwater.jobs: debug }"
                    )
                    continue
                }
                texts[key] = .list(
                    mapping.compactMap { label, node in
                        let name = label.string ?? ""
                        return root.text(of: node, key: "\(key).\(name)", line: entry.line, allowed: "a level")
                            .map { "\(name)=\($0.value)" }
                    }
                )
            } else if let text = root.text(of: entry.node, key: key, allowed: "one value") {
                texts[key] = .one(text.value)
                if text.isSubstituted { substituted[key] = text.shown }
            }
        }
        let layers = LayeredSettings(flags: flags, environment: environment, file: texts, fileOrigins: origins)
        return TopLevelSettings(layers, substituted: substituted, report: context.report)
    }

    /// Warnings about variables whose names resemble a misspelt setting. They are not errors, because other programs
    /// may use such variables.
    private func unknownVariables() -> [String] {
        let known = TopLevelSettings.keys.map(LayeredSettings.variable(for:))
        return environment.keys.sorted().compactMap { name in
            guard name.hasPrefix("BREAKWATER_"), !known.contains(name) else { return nil }
            let nearest = known.first { Spelling.distance(Array($0), Array(name)) <= 2 }
            return nearest.map { "the environment variable \(name) is not known; did you mean \($0)?" }
        }
    }
}
