import Breakwater
import BreakwaterEndpoints
import Libpq
import Logging

/// The settings of the worker itself, each with where it came from.
struct TopLevelSettings {
    /// A connection string or URL; empty for libpq's own environment and service files.
    var database = ""
    var queues = ["default"]
    var concurrency = 200
    var lease = Duration.seconds(30)
    var shutdownGrace = Duration.seconds(30)
    var pollInterval = Duration.seconds(1)
    var listens = true
    /// The database on which the worker listens, in the format of `database`; empty for the same one.
    var listenDatabase = ""
    /// The worker's name; nil for one made of the host's name and the process number.
    var name: String?
    var logLevel = Logger.Level.info
    /// Other levels for some loggers, by label.
    var logLevels: [String: Logger.Level] = [:]
    var logFormat = LogFormat.auto
    /// Where metrics and health are served; nil for nowhere.
    var metrics: ListenAddress?
    /// The base URL of the collector that spans are sent to; nil for what OpenTelemetry's own variables say.
    var traces: String?

    /// The keys that the file, the environment and the flags may give.
    static let keys = [
        "database", "queues", "concurrency", "lease", "shutdown_grace", "poll_interval", "listen", "listen_database",
        "name", "log_level", "log_levels", "log_format", "metrics", "traces",
    ]

    /// The effective values as they are shown, in the order of the keys.
    private(set) var effective: [EffectiveEntry] = []

    /// Reads every setting. An invalid one is reported, and its default is used.
    ///
    /// - Parameters:
    ///   - layers: The values of flags, environment and file.
    ///   - substituted: The values of the file in which a variable was substituted, as they stand in the file, by key.
    ///   - report: Receives each problem.
    init(
        _ layers: LayeredSettings,
        substituted: [String: String],
        report: @escaping (ConfigurationProblem) -> Void
    ) {
        let source = Source(layers: layers, substituted: substituted, report: report)
        var shown: [EffectiveEntry] = []
        func read<Value>(_ key: String, _ rule: ValueRule<Value>, _ value: inout Value) {
            shown.append(source.read(key, rule, into: &value))
        }
        let conninfo = ValueRule<String>(
            allowed: Self.aDatabase,
            parse: { text in
                do throws(PostgresError) {
                    try ConnectionOptions(text).check()
                    return text
                } catch {
                    // The value is left out, because any part of a malformed connection string may be a password.
                    throw ValueRefusal("\(error.message); give \(Self.aDatabase)")
                }
            },
            text: { $0 }
        )
        shown.append(source.read("database", conninfo, into: &database, mask: Secrets.maskingPasswords(inConninfo:)))
        shown.append(
            source.readList("queues", ValueRule.text("a queue's name", bytes: SettingLimits.nameBytes), into: &queues)
        )
        read("concurrency", .whole(SettingLimits.concurrency), &concurrency)
        read("lease", .duration(SettingLimits.lease), &lease)
        read("shutdown_grace", .duration(SettingLimits.shutdownGrace), &shutdownGrace)
        read("poll_interval", .duration(SettingLimits.pollInterval), &pollInterval)
        read("listen", .flag, &listens)
        let listenEntry = source.read(
            "listen_database",
            conninfo,
            into: &listenDatabase,
            mask: Secrets.maskingPasswords(inConninfo:)
        )
        if !listenDatabase.isEmpty { shown.append(listenEntry) }
        var givenName = ""
        let nameEntry = source.read("name", ValueRule.text("a name", bytes: SettingLimits.nameBytes), into: &givenName)
        if !givenName.isEmpty {
            name = givenName
            shown.append(nameEntry)
        }
        read("log_level", .choice, &logLevel)
        shown.append(source.readLevels("log_levels", into: &logLevels))
        read("log_format", .choice, &logFormat)
        var metrics = ListenAddress(host: "127.0.0.1", port: 9464)
        let metricsEntry = source.read("metrics", .address, into: &metrics)
        if layers.text("metrics") != nil {
            self.metrics = metrics
            shown.append(metricsEntry)
        }
        var traces = ""
        let tracesEntry = source.read("traces", .collector, into: &traces, mask: Secrets.maskingPasswords(inURL:))
        if !traces.isEmpty {
            self.traces = traces
            shown.append(tracesEntry)
        }
        effective = shown
    }

    private static let aDatabase = "a connection string or URL, such as postgresql:///app"

    /// Reads single settings.
    private struct Source {
        var layers: LayeredSettings
        var substituted: [String: String]
        var report: (ConfigurationProblem) -> Void

        func read<Value>(
            _ key: String,
            _ rule: ValueRule<Value>,
            into value: inout Value,
            mask: (String) -> String = { $0 }
        ) -> EffectiveEntry {
            var origin = SettingOrigin.fallback
            var shown: String?
            if let given = layers.text(key) {
                origin = given.origin
                if case .file = origin { shown = substituted[key] }
                do {
                    value = try rule.read(given.text)
                } catch {
                    let message = error.message.replacing("'\(given.text)'", with: "'\(mask(shown ?? given.text))'")
                    report(ConfigurationProblem(origin: origin, key: key, message: message))
                }
            }
            return EffectiveEntry(key: key, value: .text(mask(shown ?? rule.text(value))), comment: origin.label)
        }

        /// Reads `label=level`, any number of them.
        func readLevels(_ key: String, into levels: inout [String: Logger.Level]) -> EffectiveEntry {
            var origin = SettingOrigin.fallback
            if let given = layers.texts(key) {
                origin = given.origin
                for text in given.texts {
                    let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
                    do {
                        guard parts.count == 2 else {
                            throw ValueRefusal(
                                "'\(text)' is not allowed; give a label and a level, breakwater.jobs=debug"
                            )
                        }
                        levels[parts[0]] = try ValueRule<Logger.Level>.choice.read(parts[1])
                    } catch {
                        let message = (error as? ValueRefusal)?.message ?? "\(error)"
                        report(ConfigurationProblem(origin: origin, key: key, message: message))
                    }
                }
            }
            let entries = levels.sorted { $0.key < $1.key }
                .map { EffectiveEntry(key: $0.key, value: .text($0.value.rawValue)) }
            return EffectiveEntry(key: key, value: .map(entries), comment: origin.label)
        }

        func readList(
            _ key: String,
            _ rule: ValueRule<String>,
            into values: inout [String]
        ) -> EffectiveEntry {
            var origin = SettingOrigin.fallback
            if let given = layers.texts(key) {
                origin = given.origin
                var taken: [String] = []
                for text in given.texts {
                    do {
                        let value = try rule.read(text)
                        if taken.contains(value) { throw ValueRefusal("'\(text)' is given twice; name each once") }
                        taken.append(value)
                    } catch {
                        let message = (error as? ValueRefusal)?.message ?? "\(error)"
                        report(ConfigurationProblem(origin: origin, key: key, message: message))
                    }
                }
                if given.texts.isEmpty {
                    let message = "the list is empty; give at least one, or leave the key out for default"
                    report(ConfigurationProblem(origin: origin, key: key, message: message))
                }
                values = taken
            }
            return EffectiveEntry(key: key, value: .list(values.map { .text($0) }), comment: origin.label)
        }
    }
}
