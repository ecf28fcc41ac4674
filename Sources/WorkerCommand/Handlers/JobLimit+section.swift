import Breakwater
import Yams

extension HandlerSettings {
    /// Reads the keys of flow control: `limits`, `order` and `share`.
    mutating func readFlow(_ section: ConfigurationSection, kind: String, defaults: HandlerSettings) {
        limits = [JobLimit](in: section, kind: kind, default: defaults.limits)
        order = KeyOrder?(in: section, default: defaults.order)
        adapt = Self.readBounds(section, default: defaults.adapt)
        let share = section.read(
            "share",
            ValueRule.payloadPath.orOff(),
            default: defaults.share.map { JSONPath(segments: $0) }
        )
        self.share = share?.segments
    }

    /// Reads `adapt`, which has `min` and `max`, or is the word `off`.
    private static func readBounds(_ section: ConfigurationSection, default fallback: ClosedRange<Int>?) -> ClosedRange<
        Int
    >? {
        guard let entry = section.entry("adapt") else {
            guard let fallback else {
                section.effective.append(EffectiveEntry(key: "adapt", value: .text("off")))
                return nil
            }
            let shown = [("min", fallback.lowerBound), ("max", fallback.upperBound)].map {
                EffectiveEntry(key: $0, value: .text("\($1)"))
            }
            section.effective.append(EffectiveEntry(key: "adapt", value: .map(shown)))
            return fallback
        }
        if entry.node.scalar?.string == "off" {
            section.effective.append(EffectiveEntry(key: "adapt", value: .text("off")))
            return nil
        }
        let inner = section.readSection("adapt")
        let least = inner.read("min", .whole(SettingLimits.limitedConcurrency), default: fallback?.lowerBound ?? 1)
        let most = inner.readIfPresent("max", .whole(SettingLimits.limitedConcurrency)) ?? fallback?.upperBound
        if most == nil, !inner.has("max"), !inner.isMalformed {
            inner.report("nothing says how many jobs may run at once at most; give { min: 2, max: 200 }")
        }
        if let most, least > most {
            inner.report("min", "min, \(least), is above max, \(most)")
        }
        section.record(inner, as: "adapt")
        return most.flatMap { least <= $0 ? least...$0 : nil }
    }
}

extension [JobLimit] {
    private static let allowed = "a limit, such as { concurrency: 5, rate: 10/s }, or a list of limits"

    /// Reads `limits`, which is one limit, a list of them, or the word `off`.
    fileprivate init(in section: ConfigurationSection, kind: String, default fallback: [JobLimit]) {
        self = fallback
        defer { section.effective.append(EffectiveEntry(key: "limits", value: .list(map(\.shown)))) }
        guard let entry = section.entry("limits") else { return }
        switch entry.node {
        case .mapping:
            self = [JobLimit(entry.node, in: section, path: "limits", line: entry.line)]
        case .sequence(let sequence):
            self = sequence.enumerated().map { index, node in
                JobLimit(node, in: section, path: "limits[\(index)]", line: entry.line)
            }
        case .scalar(let scalar) where scalar.string == "off":
            self = []
        default:
            section.report("limits", "\(entry.node.description(limit: 60)) is not allowed; give \(Self.allowed)")
            return
        }
        let names = map { $0.fullName(of: kind) }
        if let name = names.first(where: { name in names.count { $0 == name } > 1 }) {
            section.report(
                "limits",
                "two limits have the name '\(name)'; give one of them a name:, or put both into one limit"
            )
        }
    }
}

extension JobLimit {
    /// Reads one limit.
    fileprivate init(_ node: Node, in handler: ConfigurationSection, path: String, line: Int) {
        self.init()
        let section = ConfigurationSection(
            node,
            context: handler.context,
            path: handler.path(of: path),
            line: node.mark?.line ?? line
        )
        name = section.readIfPresent("name", .text("a name", bytes: SettingLimits.nameBytes))
        key = section.readIfPresent("key", .payloadPath)?.segments
        concurrency = section.readIfPresent("concurrency", .whole(SettingLimits.limitedConcurrency))
        rate = section.readIfPresent("rate", .rate)
        burst = section.readIfPresent("burst", .whole(SettingLimits.limitedConcurrency))
        weight = section.readIfPresent("weight", .payloadPath)?.segments
        if !section.has("concurrency"), !section.has("rate"), !section.isMalformed {
            section.report("it limits nothing; give concurrency: 5, rate: 10/s, or both")
        }
        if section.has("burst"), !section.has("rate") {
            section.report("burst", "a burst is how many jobs a rate lets start at once after a pause; give a rate too")
        }
        section.finish()
    }

    /// The limit in the effective configuration.
    fileprivate var shown: EffectiveValue {
        var entries: [EffectiveEntry] = []
        func show(_ key: String, _ text: String?) {
            if let text { entries.append(EffectiveEntry(key: key, value: .text(text))) }
        }
        show("name", name)
        show("key", key.map { JSONPath(segments: $0).text })
        show("concurrency", concurrency.map { "\($0)" })
        show("rate", rate.map(ValueRule.rate.text))
        show("burst", burst.map { "\($0)" })
        show("weight", weight.map { JSONPath(segments: $0).text })
        return .map(entries)
    }
}

extension KeyOrder? {
    /// Reads `order`, which is a path, a section with `key` and `on_dead`, or the word `off`.
    fileprivate init(in section: ConfigurationSection, default fallback: KeyOrder?) {
        guard case .mapping? = section.entry("order")?.node else {
            let path = section.read(
                "order",
                ValueRule.payloadPath.orOff(),
                default: fallback.map { JSONPath(segments: $0.key) }
            )
            self = path.map { KeyOrder(by: $0.segments, onDead: fallback?.onDead ?? .continue) }
            return
        }
        let inner = section.readSection("order")
        let key = inner.readIfPresent("key", .payloadPath)
        let onDead = inner.read("on_dead", .onDead, default: fallback?.onDead ?? .continue)
        if !inner.has("key") { inner.report("nothing says which jobs are kept in order; give key: $.customer") }
        section.record(inner, as: "order")
        self = key.map { KeyOrder(by: $0.segments, onDead: onDead) } ?? fallback
    }
}

extension ValueRule where Value == JSONPath {
    /// A path of one value of the payload.
    static var payloadPath: Self {
        Self(
            allowed: "a path into the payload, such as $.customer",
            parse: { text in
                if text.hasPrefix("$") { return try JSONPath(text: text) }
                throw ValueRefusal("'\(text)' is not a path; write $.\(text) for what stands there in the payload")
            },
            text: \.text
        )
    }
}

extension ValueRule where Value == KeyOrder.OnDead {
    fileprivate static var onDead: Self {
        Self(allowed: "continue or halt", parse: { KeyOrder.OnDead(rawValue: $0) }, text: \.rawValue)
    }
}

extension ValueRule where Value == JobLimit.Rate {
    /// A number of starts in a time: `10/s`, `600/min`, `1/h`, `100/15m`.
    static var rate: Self {
        let units: [(name: String, period: Duration)] = [
            ("s", .seconds(1)), ("min", .seconds(60)), ("h", .seconds(3600)), ("d", .days(1)),
        ]
        return Self(
            allowed: "a number of starts in a time, such as 10/s, 600/min or 1000/h",
            parse: { text in
                let parts = text.split(separator: "/", omittingEmptySubsequences: false)
                if parts.count == 1, Double(text) != nil {
                    throw ValueRefusal("'\(text)' has no time; write \(text)/s or \(text)/min")
                }
                guard parts.count == 2, let count = Double(parts[0]) else { return nil }
                let name = String(parts[1])
                guard let period = units.first(where: { $0.name == name })?.period ?? (try? Duration(text: name)),
                    period > .zero
                else { throw ValueRefusal("'\(text)' has no time that is known; write 10/s, 600/min, 1000/h or 5/d") }
                let rate = JobLimit.Rate(count, per: period)
                guard count > 0, SettingLimits.startsPerSecond.contains(rate.perSecond) else {
                    throw ValueRefusal(
                        "'\(text)' is not allowed; a rate is between one a year and 1000000 a second. To stop a kind, pause it"
                    )
                }
                return rate
            },
            text: { rate in
                "\(rate.count.shortText)/\(units.first { $0.period == rate.period }?.name ?? rate.period.text)"
            }
        )
    }
}
