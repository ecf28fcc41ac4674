import Breakwater
import BreakwaterDashboard
import BreakwaterEndpoints
import BreakwaterNotify
import Libpq
import Logging
import Yams

/// A configuration that was read whole and found to be fine.
struct LoadedConfiguration: Sendable {
    /// What the worker runs with.
    var worker: WorkerConfiguration
    /// The dashboard, where the file has one.
    var dashboard: DashboardConfiguration?
    /// Who is told of incidents, where the file says so.
    var notify: NotificationTarget?
    /// The least important messages that are written.
    var logLevel: Logger.Level
    /// Other levels for some loggers, by label.
    var logLevels: [String: Logger.Level] = [:]
    /// How log lines look.
    var logFormat: LogFormat
    /// Where metrics and health are served; nil for nowhere.
    var metrics: ListenAddress?
    /// The base URL of the collector that spans are sent to.
    var traces: String?
    /// What is odd but not wrong.
    var warnings: [String]
    /// Everything as YAML: defaults filled in, secrets masked, beside each top-level value where it came from.
    var effectiveText: String
    /// The path of every key that could have been given, for the kinds and plugins that were.
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
    /// Whether a worker is to run. Else nobody looks at `handlers`.
    var needsHandlers = true

    /// Reads everything, and goes on after a problem so that all of them are known at once.
    ///
    /// - Parameter file: The parsed file; nil for none, which is enough when the executable has handlers of its own.
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
        if !settings.listenDatabase.isEmpty { worker.listenDatabase = ConnectionOptions(settings.listenDatabase) }
        do {
            // What the file says was judged above; what is left is in settings that Swift code made.
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

    /// Variables that look like a setting of ours with a slip in the name: a warning, for other programs may use them.
    private func unknownVariables() -> [String] {
        let known = TopLevelSettings.keys.map(LayeredSettings.variable(for:))
        return environment.keys.sorted().compactMap { name in
            guard name.hasPrefix("BREAKWATER_"), !known.contains(name) else { return nil }
            let nearest = known.first { Spelling.distance(Array($0), Array(name)) <= 2 }
            return nearest.map { "the environment variable \(name) is not known; did you mean \($0)?" }
        }
    }
}
