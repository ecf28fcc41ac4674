import Foundation

/// The top-level settings from flags, the environment and the file. The first layer that gives a setting decides.
struct LayeredSettings {
    /// One source of settings: what it gives, and the origin of each.
    private struct Layer {
        var texts: [String: SettingText]
        var origin: (_ key: String) -> SettingOrigin
    }

    private let layers: [Layer]

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
        let variables = TopLevelSettings.keys.compactMap { key -> (String, SettingText)? in
            // An empty variable counts as unset, as in a shell's ${NAME:-…}.
            guard let text = environment[Self.variable(for: key)], !text.isEmpty else { return nil }
            return (key, .one(text))
        }
        layers = [
            Layer(texts: flags) { .flag(name: "--" + $0.replacing("_", with: "-")) },
            Layer(texts: Dictionary(uniqueKeysWithValues: variables)) {
                .environment(variable: Self.variable(for: $0))
            },
            Layer(texts: file) { fileOrigins[$0] ?? .fallback },
            // This variable belongs to the whole machine rather than to this worker, so the file precedes it.
            Layer(texts: environment["DATABASE_URL"].map { ["database": .one($0)] } ?? [:]) { _ in
                .environment(variable: "DATABASE_URL")
            },
        ]
    }

    /// The variable that gives a top-level key.
    static func variable(for key: String) -> String {
        "BREAKWATER_" + key.uppercased()
    }

    /// The text of a setting and where it came from; nil if no layer gives one.
    func text(_ key: String) -> (text: String, origin: SettingOrigin)? {
        guard case (.one(let text), let origin)? = value(of: key) else { return nil }
        return (text, origin)
    }

    /// The texts of a setting that is a list; a variable separates them by commas.
    func texts(_ key: String) -> (texts: [String], origin: SettingOrigin)? {
        value(of: key).map { value, origin in
            switch value {
            case .list(let texts): (texts, origin)
            case .one(let text):
                (text.components(separatedBy: ",").map { $0.trimmingCharacters(in: .whitespaces) }, origin)
            }
        }
    }

    private func value(of key: String) -> (SettingText, SettingOrigin)? {
        for layer in layers {
            if let text = layer.texts[key] { return (text, layer.origin(key)) }
        }
        return nil
    }
}

/// What a layer gives for a key.
enum SettingText: Sendable, Equatable {
    case one(String)
    case list([String])
}
