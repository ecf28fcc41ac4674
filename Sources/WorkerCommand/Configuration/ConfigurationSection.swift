import Yams

/// What all sections of one file share: its name, the environment, and the problems found so far.
///
/// A class, used by one loader on one task: reading goes on after a problem, so that all are found at once.
final class ConfigurationContext {
    /// The file's name as people gave it.
    let file: String
    /// What `${NAME}` stands for.
    let environment: [String: String]
    /// Nobody mends more problems at once, and a file that is none of ours may have a hundred thousand.
    static let mostProblems = 100
    /// Everything found wrong, up to so many.
    private(set) var problems: [ConfigurationProblem] = []
    /// Everything found odd but not wrong.
    private(set) var warnings: [ConfigurationProblem] = []
    /// The path of every key that was asked for, given or not.
    private(set) var knownKeys: Set<String> = []
    /// Where each key stands that was asked for and given, by its path.
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

    /// Remembers a key that was asked for, and where it stands.
    func record(_ path: String, at origin: SettingOrigin?) {
        knownKeys.insert(path)
        if let origin { origins[path] = origin }
    }

    /// A problem with a key that was read before: where it stands in the file, or in Swift when it does not.
    func problem(with path: String, _ message: String) -> ConfigurationProblem {
        ConfigurationProblem(origin: origins[path] ?? .code, key: path, message: message)
    }

    /// Everything found wrong: what flags and variables say first, then the file from top to bottom.
    var sortedProblems: [ConfigurationProblem] { Self.sorted(problems) }

    /// Everything found odd, in the same order.
    var sortedWarnings: [ConfigurationProblem] { Self.sorted(warnings) }

    private static func sorted(_ problems: [ConfigurationProblem]) -> [ConfigurationProblem] {
        func line(_ problem: ConfigurationProblem) -> Int {
            if case .file(_, let line) = problem.origin { line } else { 0 }
        }
        // The standard library's sort is stable: what stands in one line keeps its order.
        return problems.sorted { line($0) < line($1) }
    }
}

/// One mapping of the file, read strictly.
///
/// Each `read…` method states a key, what is allowed and the default; it reports what is wrong and goes on with the
/// default. What was asked for is what is known: ``finish()`` reports the other keys. Along the way the section
/// records the effective value of each key, in the order of asking.
final class ConfigurationSection {
    /// One key as it stands in the file.
    struct Entry {
        var name: String
        var line: Int
        var node: Node
    }

    let context: ConfigurationContext
    /// The section by its path; empty for the whole file.
    let path: String
    /// Where the section begins.
    let origin: SettingOrigin
    /// The keys given.
    let entries: [Entry]
    /// The first entry of each name.
    private let places: [String: Int]
    /// Whether something else than a mapping stands in its place, which was reported.
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

    /// Whether nothing was reported since the reading of this section began.
    var isFine: Bool { context.problems.count == problemsBefore && !isMalformed }

    /// A section for a node that must be a mapping; reports and reads as empty when it is something else.
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
                // An alias's mark is that of its anchor, elsewhere in the file; the key is where people look.
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

    /// Looks a key up, which makes it known.
    func entry(_ key: String) -> Entry? {
        know([key])
        return places[key].map { entries[$0] }
    }

    /// Makes keys known that another part of the program reads.
    func know(_ keys: [String]) {
        known += keys
        for key in keys { context.record(path(of: key), at: place(of: key)) }
    }

    /// Reports what is wrong with a key: where it stands in the file, or with the section when it does not.
    func report(_ key: String, _ message: String) {
        context.report(.init(origin: place(of: key) ?? origin, key: path(of: key), message: message))
    }

    /// Tells what is odd but not wrong about a key.
    func warn(_ key: String, _ message: String) {
        context.warn(.init(origin: place(of: key) ?? origin, key: path(of: key), message: message))
    }

    /// Where a key stands in the file.
    private func place(of key: String) -> SettingOrigin? {
        places[key].map { .file(name: context.file, line: entries[$0].line) }
    }

    /// Reports what is wrong with the section as a whole.
    func report(_ message: String) {
        context.report(.init(origin: origin, key: path, message: message))
    }

    /// Reports every key that nobody asked for, with the one that was most likely meant.
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
    /// Whether it is a key without a value, or `null`.
    var isEmptyScalar: Bool {
        guard let scalar, scalar.style == .plain || scalar.style == .any else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(scalar.string)
    }

    /// The node in a few words, for a message about it.
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
