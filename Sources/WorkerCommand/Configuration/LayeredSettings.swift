import Configuration
import Synchronization

/// The top-level settings from flags, the environment and the file; the first that gives one decides.
///
/// A thin layer over swift-configuration, which keeps the precedence, that adds where each value came from.
struct LayeredSettings {
    /// The names of the layers, which swift-configuration reports with each value.
    private enum Layer {
        static let flags = "flags"
        static let file = "file"
        static let lowest = "lowest"
    }

    private let reader: ConfigReader
    private let provenance = Provenance()
    private let origins: (_ key: String, _ provider: String) -> SettingOrigin

    /// - Parameters:
    ///   - flags: Values of the command line by key.
    ///   - environment: All variables; `BREAKWATER_CONCURRENCY` gives `concurrency`.
    ///   - file: Values of the file by key.
    ///   - fileOrigins: Where each stands in the file.
    init(
        flags: [String: SettingText],
        environment: [String: String],
        file: [String: SettingText],
        fileOrigins: [String: SettingOrigin]
    ) {
        // What belongs to the whole machine rather than to this worker comes last: the file says more about it.
        let lowest = environment["DATABASE_URL"].map { ["database": SettingText.one($0)] } ?? [:]
        // An empty variable is an unset one, as in shells' ${NAME:-…}.
        let own = environment.filter { $0.key.hasPrefix("BREAKWATER_") && !$0.value.isEmpty }
        let providers: [any ConfigProvider] = [
            InMemoryProvider(name: Layer.flags, values: Self.values(flags)),
            EnvironmentVariablesProvider(
                environmentVariables: own,
                secretsSpecifier: .specific(["BREAKWATER_DATABASE"])
            ),
            InMemoryProvider(name: Layer.file, values: Self.values(file)),
            InMemoryProvider(name: Layer.lowest, values: Self.values(lowest)),
        ]
        reader = ConfigReader(providers: providers, accessReporter: provenance).scoped(to: "breakwater")
        origins = { key, provider in
            switch provider {
            case _ where provider.contains("[\(Layer.flags)]"):
                .flag(name: "--" + key.replacing("_", with: "-"))
            case _ where provider.contains("[\(Layer.file)]"):
                fileOrigins[key] ?? .fallback
            case _ where provider.contains("[\(Layer.lowest)]"):
                .environment(variable: "DATABASE_URL")
            default:
                .environment(variable: Self.variable(for: key))
            }
        }
    }

    /// The variable that gives a top-level key.
    static func variable(for key: String) -> String {
        "BREAKWATER_" + key.uppercased()
    }

    /// The text of a setting and where it came from; nil when nobody gave one.
    func text(_ key: String) -> (text: String, origin: SettingOrigin)? {
        reader.string(forKey: ConfigKey([key])).map { ($0, origin(of: key)) }
    }

    /// The texts of a setting that is a list; the environment separates them by commas.
    func texts(_ key: String) -> (texts: [String], origin: SettingOrigin)? {
        reader.stringArray(forKey: ConfigKey([key])).map { ($0, origin(of: key)) }
    }

    private func origin(of key: String) -> SettingOrigin {
        origins(key, provenance.provider)
    }

    private static func values(_ texts: [String: SettingText]) -> [AbsoluteConfigKey: ConfigValue] {
        Dictionary(
            uniqueKeysWithValues: texts.map { key, text in
                let content: ConfigContent =
                    switch text {
                    case .one(let text): .string(text)
                    case .list(let texts): .stringArray(texts)
                    }
                return (AbsoluteConfigKey(["breakwater", key]), ConfigValue(content, isSecret: key == "database"))
            }
        )
    }
}

/// What a layer gives for a key.
enum SettingText: Sendable, Equatable {
    case one(String)
    case list([String])
}

/// Remembers which provider gave the value that was read last.
private final class Provenance: AccessReporter {
    private let last = Mutex("")

    var provider: String { last.withLock(\.self) }

    func report(_ event: AccessEvent) {
        let provider = event.providerResults.first { result in
            if case .success(let lookup) = result.result { lookup.value != nil } else { false }
        }
        last.withLock { $0 = provider?.providerName ?? "" }
    }
}
