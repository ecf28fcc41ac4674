import Breakwater
import Yams

extension CircuitPolicy {
    /// Reads `circuit`, which is a section or the word `off`.
    ///
    /// - Parameters:
    ///   - handler: The handler's section; the circuit's effective values are recorded in it.
    ///   - defaults: What holds for the keys that are left out.
    init(in handler: ConfigurationSection, defaults: CircuitPolicy) {
        self = defaults
        if let entry = handler.entries.first(where: { $0.name == "circuit" }), entry.node.scalar?.string == "off" {
            handler.know(["circuit"])
            isEnabled = false
            handler.effective.append(EffectiveEntry(key: "circuit", value: .text("off")))
            return
        }
        let section = handler.readSection("circuit")
        isEnabled = section.read("enabled", .flag, default: defaults.isEnabled)
        failureRate = section.read("failure_rate", ValueRule.share.orOff(), default: defaults.failureRate)
        window = .time(
            section.read("window", .duration(atLeast: .seconds(1), atMost: .days(1)), default: .seconds(60))
        )
        minimumCalls = section.read("minimum_calls", .whole(1...1_000_000), default: defaults.minimumCalls)
        consecutiveFailures = section.read(
            "consecutive_failures",
            ValueRule.whole(1...1_000_000).orOff(),
            default: defaults.consecutiveFailures
        )
        openFor = section.read("open_for", .duration(atLeast: .milliseconds(1)), default: defaults.openFor)
        openFactor = section.read("open_factor", .number(1...1000), default: defaults.openFactor)
        openCap = section.read("open_cap", .duration(atLeast: .milliseconds(1)), default: defaults.openCap)
        probes = section.read("probes", .whole(1...10_000), default: defaults.probes)
        successesToClose = section.read("successes_to_close", .whole(1...10_000), default: defaults.successesToClose)
        if openFor > openCap {
            section.report(
                section.has("open_for") ? "open_for" : "open_cap",
                "open_for, \(openFor.text), is longer than open_cap, \(openCap.text); "
                    + "give an open_for of at most open_cap, or a longer open_cap"
            )
        }
        fallback = Fallback(in: section, default: defaults.fallback)
        handler.record(section, as: "circuit")
    }
}

extension CircuitPolicy.Fallback {
    private static var allowed: String { "hold, dead_letter, or { succeed: a JSON value }" }

    /// Reads `fallback`: a word, or a mapping with one key that says what is done.
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
        guard mapping.count == 1, let (key, value) = mapping.first, key.scalar?.string == "succeed" else {
            let keys = mapping.map { $0.key.scalar?.string ?? "?" }.joined(separator: ", ")
            section.report("fallback", "'\(keys)' is not allowed here; give \(Self.allowed)")
            return
        }
        do {
            let result = try value.json { text throws(ValueRefusal) in
                try Substitution.apply(to: text, environment: section.context.environment).text
            }
            self = .succeed(result: result)
        } catch {
            section.report("fallback", "succeed: \(error.message)")
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

extension Duration {
    /// So many times 24 hours.
    static func days(_ count: Int64) -> Duration { .seconds(count * 86_400) }
}
