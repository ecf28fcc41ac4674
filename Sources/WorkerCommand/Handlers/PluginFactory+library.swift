import Breakwater
import BreakwaterLibrary
import Yams

extension PluginFactory {
    /// `library` calls a function of a shared library for each job.
    static let library = PluginFactory(name: "library") { section, kind in
        let path = section.readIfPresent("path", .text("a path", bytes: 1...4096))
        if !section.has("path") {
            section.report("there is no library; give the path of one, such as path: /usr/local/lib/resize.so")
        }
        let entry = section.read(
            "entry",
            .text("the name of a function", bytes: 1...1000),
            default: LibraryPlugin.defaultEntry
        )
        let settings = section.readSettings()
        let threads = section.read("threads", .whole(LibraryPlugin.threadsRange), default: 4)
        let stack = section.read("stack", .bytes(LibraryPlugin.stackRange), default: 8 << 20)
        let maxResult = section.read("max_result", .bytes(LibraryPlugin.maxResultRange), default: 1 << 20)
        guard section.isFine, let path else { return nil }
        do {
            return try LibraryPlugin(
                path: path,
                entry: entry,
                settings: settings,
                threads: threads,
                stackBytes: stack,
                maxResultBytes: maxResult
            )
        } catch let error as LibraryPluginError {
            section.report(error.code.key, error.message)
            return nil
        }
    }
}

extension LibraryPluginError.Code {
    /// The key whose value is at fault.
    fileprivate var key: String {
        switch self {
        case .invalidPath, .fileNotFound, .notLoadable, .unsupportedVersion, .invalidHandler: "path"
        case .missingEntry: "entry"
        case .invalidSettings: "settings"
        case .invalidLimit: "threads"
        }
    }
}

extension ConfigurationSection {
    /// Reads `settings`, a mapping that the library gets as JSON.
    fileprivate func readSettings() -> String {
        guard let entry = entry("settings") else {
            effective.append(EffectiveEntry(key: "settings", value: .json("{}")))
            return "{}"
        }
        guard case .mapping = entry.node else {
            report("settings", "\(entry.node.description(limit: 60)) is not a mapping of keys")
            return "{}"
        }
        do throws(ValueRefusal) {
            let shown = try entry.node.maskingSecrets.json { text in text }
            let json = try entry.node.json { text throws(ValueRefusal) in
                try Substitution.apply(to: text, environment: context.environment).text
            }
            guard JobResult.isStorable(json) else {
                throw ValueRefusal("this is no JSON; are its lists nested that deep, or a number that large?")
            }
            effective.append(EffectiveEntry(key: "settings", value: .json(shown)))
            return json
        } catch {
            report("settings", error.message)
            return "{}"
        }
    }
}

extension Node {
    /// The node with the values of keys that usually name a secret replaced.
    fileprivate var maskingSecrets: Node {
        switch self {
        case .mapping(var mapping):
            for (key, value) in mapping {
                let isSecret = key.scalar.map { Secrets.isSecretName($0.string) } ?? false
                mapping[key] = isSecret ? Node(Secrets.mask, Tag(.str), .doubleQuoted) : value.maskingSecrets
            }
            return .mapping(mapping)
        case .sequence(var sequence):
            for index in sequence.indices { sequence[index] = sequence[index].maskingSecrets }
            return .sequence(sequence)
        default: return self
        }
    }
}
