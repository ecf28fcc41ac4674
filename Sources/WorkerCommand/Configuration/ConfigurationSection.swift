import BreakwaterHTTP
import Yams

/// The state that all sections of one file share: the file's name, the environment, and the problems found so far.
///
/// This is a class that one loader uses on one task. Reading continues after a problem, so that all problems are found
/// at once.
final class ConfigurationContext {
    /// The file's name as it was given.
    let file: String
    /// The variables for `${NAME}`.
    let environment: [String: String]
    /// Reads the endpoints for the handlers that send jobs to them. It gets its database when the worker runs.
    let endpoints = EndpointDirectory()
    /// The most problems that are reported. A file that is not a Breakwater configuration could have a hundred
    /// thousand.
    static let mostProblems = 100
    /// The problems found, at most ``mostProblems``.
    private(set) var problems: [ConfigurationProblem] = []
    /// Warnings about values that are unusual but valid.
    private(set) var warnings: [ConfigurationProblem] = []
    /// The path of every key that was read, whether the file gives it or not.
    private(set) var knownKeys: Set<String> = []
    /// Where the file gives each key that was read, by the key's path.
    private var origins: [String: SettingOrigin] = [:]

    init(file: String, environment: [String: String]) {
        self.file = file
        self.environment = environment
    }

    func report(_ problem: ConfigurationProblem) {
        if problems.count < Self.mostProblems { problems.append(problem) }
    }

    func warn(_ warning: ConfigurationProblem) {
        if warnings.count < Self.mostProblems { warnings.append(warning) }
    }

    /// Records a key that was read, and where the file gives it.
    func record(_ path: String, at origin: SettingOrigin?) {
        knownKeys.insert(path)
        if let origin { origins[path] = origin }
    }

    /// A problem with a key that was read before. Its origin is the key's place in the file, or the Swift code if the
    /// file does not give the key.
    func problem(with path: String, _ message: String) -> ConfigurationProblem {
        ConfigurationProblem(origin: origins[path] ?? .code, key: path, message: message)
    }

    /// The problems in order: those of flags and variables first, then those of the file from top to bottom.
    var sortedProblems: [ConfigurationProblem] { Self.sorted(problems) }

    /// The warnings, in the same order.
    var sortedWarnings: [ConfigurationProblem] { Self.sorted(warnings) }

    private static func sorted(_ problems: [ConfigurationProblem]) -> [ConfigurationProblem] {
        func line(_ problem: ConfigurationProblem) -> Int {
            if case .file(_, let line) = problem.origin { line } else { 0 }
        }
        // The standard library's sort is stable, so problems of the same line keep their order.
        return problems.sorted { line($0) < line($1) }
    }
}

/// One mapping of the file. Unknown keys are problems.
///
/// Each `read…` method names a key, the allowed values and the default. It reports an invalid value and continues with
/// the default. The keys that were read are the known ones: ``finish()`` reports all others. The section also records
/// the effective value of each key, in the order of reading.
final class ConfigurationSection {
    /// One key as the file gives it.
    struct Entry {
        var name: String
        var line: Int
        var node: Node
    }

    let context: ConfigurationContext
    /// The section's path; empty for the whole file.
    let path: String
    /// Where the section begins.
    let origin: SettingOrigin
    /// The keys given.
    let entries: [Entry]
    /// The first entry of each name.
    private let places: [String: Int]
    /// Whether the file has something other than a mapping here, which has been reported.
    private(set) var isMalformed = false
    private let problemsBefore: Int
    private var known: [String] = []
    /// The keys read so far with their values.
    var effective: [EffectiveEntry] = []

    init(context: ConfigurationContext, path: String, origin: SettingOrigin, entries: [Entry]) {
        self.context = context
        self.path = path
        self.origin = origin
        self.entries = entries
        places = Dictionary(zip(entries.map(\.name), entries.indices)) { first, _ in first }
        problemsBefore = context.problems.count
    }

    /// Whether no problem was reported since the reading of this section began.
    var isFine: Bool { context.problems.count == problemsBefore && !isMalformed }

    /// A section for a node that must be a mapping. Anything else is reported and read as empty.
    convenience init(_ node: Node, context: ConfigurationContext, path: String, line: Int) {
        let origin = SettingOrigin.file(name: context.file, line: line)
        var entries: [Entry] = []
        var isMalformed = false
        switch node {
        case .mapping(let mapping):
            for (key, value) in mapping {
                let keyLine = key.mark?.line ?? line
                guard let name = key.scalar?.string else {
                    let message = "a key must be a plain text"
                    context.report(.init(origin: .file(name: context.file, line: keyLine), key: path, message: message))
                    continue
                }
                // The mark of an alias is that of its anchor, which is elsewhere in the file, so the line of the key is
                // used.
                entries.append(Entry(name: name, line: keyLine, node: value))
            }
        case .scalar where node.isEmptyScalar:
            break
        default:
            isMalformed = true
            context.report(
                .init(origin: origin, key: path, message: "\(node.description(limit: 60)) is not a mapping of keys")
            )
        }
        self.init(context: context, path: path, origin: origin, entries: entries)
        self.isMalformed = isMalformed
    }

    /// A section that the file leaves out; every key reads as its default.
    func absent(_ key: String) -> ConfigurationSection {
        ConfigurationSection(context: context, path: path(of: key), origin: origin, entries: [])
    }

    /// Whether the file gives this key.
    func has(_ key: String) -> Bool {
        places[key] != nil
    }

    /// Finds a key and adds it to the known keys.
    func entry(_ key: String) -> Entry? {
        know([key])
        return places[key].map { entries[$0] }
    }

    /// Adds keys that another part of the program reads to the known keys.
    func know(_ keys: [String]) {
        known += keys
        for key in keys { context.record(path(of: key), at: place(of: key)) }
    }

    /// Reports a problem with a key. Its origin is the key's line, or that of the section if the file does not give the
    /// key.
    func report(_ key: String, _ message: String) {
        context.report(.init(origin: place(of: key) ?? origin, key: path(of: key), message: message))
    }

    /// Adds a warning about a key.
    func warn(_ key: String, _ message: String) {
        context.warn(.init(origin: place(of: key) ?? origin, key: path(of: key), message: message))
    }

    /// Where the file gives a key.
    private func place(of key: String) -> SettingOrigin? {
        places[key].map { .file(name: context.file, line: entries[$0].line) }
    }

    /// Reports a problem with the section as a whole.
    func report(_ message: String) {
        context.report(.init(origin: origin, key: path, message: message))
    }

    /// Reports every key that was not read, and suggests the key that was most likely meant.
    func finish() {
        let known = Set(known)
        for entry in entries where !known.contains(entry.name) {
            guard context.problems.count < ConfigurationContext.mostProblems else { return }
            let advice =
                if let suggestion = Spelling.suggestion(for: entry.name, among: self.known) {
                    "did you mean '\(suggestion)'?"
                } else {
                    "known here: \(known.sorted().joined(separator: ", "))"
                }
            report(entry.name, "this key is not known; \(advice)")
        }
    }

    /// The path of a key in this section.
    func path(of key: String) -> String {
        let key = key.isEmpty ? "\"\"" : key.escapingControlCharacters
        return path.isEmpty ? key : "\(path).\(key)"
    }
}

extension Node {
    /// Whether the node is `null` or empty, as after a key without a value.
    var isEmptyScalar: Bool {
        guard let scalar, scalar.style == .plain || scalar.style == .any else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(scalar.string)
    }

    /// A short description of the node for a message.
    func description(limit: Int) -> String {
        switch self {
        case .scalar(let scalar):
            scalar.string.count > limit ? "'\(scalar.string.prefix(limit))…'" : "'\(scalar.string)'"
        case .mapping: "a mapping"
        case .sequence: "a list"
        case .alias: "an alias"
        }
    }
}
