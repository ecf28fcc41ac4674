import Breakwater
import Yams

extension CircuitPolicy.Fallback {
    private static let allowed = "hold, dead_letter, { succeed: a JSON value } or { reroute: a kind }"

    /// Reads `fallback`, which is a word or a mapping with one key.
    ///
    /// - Parameters:
    ///   - section: The circuit's section, in which the effective value is recorded.
    ///   - fallback: The fallback when the key is left out.
    init(in section: ConfigurationSection, default fallback: Self) {
        self = fallback
        defer { section.effective.append(EffectiveEntry(key: "fallback", value: shown)) }
        guard let entry = section.entry("fallback") else { return }
        guard case .mapping(let mapping) = entry.node else {
            guard let text = section.text(of: entry.node, key: "fallback", allowed: Self.allowed) else { return }
            switch text.value {
            case "hold": self = .hold
            case "dead_letter": self = .deadLetter
            default: section.report("fallback", "'\(text.shown)' is not allowed; give \(Self.allowed)")
            }
            return
        }
        guard mapping.count == 1, let (key, value) = mapping.first else {
            let keys = mapping.map { $0.key.scalar?.string ?? "?" }.joined(separator: ", ")
            section.report("fallback", "'\(keys)' is not allowed here; give \(Self.allowed)")
            return
        }
        switch key.scalar?.string {
        case "succeed":
            do throws(ValueRefusal) {
                let result = try value.json { text throws(ValueRefusal) in
                    try Substitution.apply(to: text, environment: section.context.environment).text
                }
                guard JobResult.isStorable(result) else {
                    throw ValueRefusal("this is no JSON value that Postgres can store; are its lists nested that deep?")
                }
                self = .succeed(result: result)
            } catch {
                section.report("fallback", "succeed: \(error.message)")
            }
        case "reroute":
            let rule = ValueRule<String>.kind
            guard let text = section.text(of: value, key: "fallback", allowed: "{ reroute: a kind }") else { return }
            do {
                self = .reroute(kind: try rule.read(text.value))
            } catch {
                section.report("fallback", "reroute: \(error.message)")
            }
        case let other:
            let other = other ?? "?"
            let advice =
                Spelling.suggestion(for: other, among: ["succeed", "reroute"]).map { "did you mean '\($0)'?" }
                ?? "give \(Self.allowed)"
            section.report("fallback", "'\(other)' is not allowed here; \(advice)")
        }
    }

    private var shown: EffectiveValue {
        switch self {
        case .hold: .text("hold")
        case .deadLetter: .text("dead_letter")
        case .succeed(let result): .map([EffectiveEntry(key: "succeed", value: .json(result))])
        case .reroute(let kind): .map([EffectiveEntry(key: "reroute", value: .text(kind))])
        }
    }
}
