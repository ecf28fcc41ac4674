import Breakwater
import Yams

extension JobHistory? {
    /// Reads `history`, which has `keep`, `payload` and `key`, or is the word `off`.
    init(in section: ConfigurationSection, default fallback: JobHistory?) {
        self = fallback
        guard let entry = section.entry("history"), entry.node.scalar?.string != "off" else {
            if section.has("history") { self = nil }
            section.effective.append(EffectiveEntry(key: "history", value: Self.shown(self)))
            return
        }
        let inner = section.readSection("history")
        let keep = inner.readIfPresent("keep", .duration(SettingLimits.keepHistory)) ?? fallback?.keep
        let payload = inner.read("payload", .flag, default: fallback?.payload ?? false)
        let key = inner.readIfPresent("key", .payloadPath)?.segments ?? fallback?.key
        if keep == nil, !inner.has("keep"), !inner.isMalformed {
            inner.report("nothing says how long finished jobs are kept; give { keep: 7d }")
        }
        section.record(inner, as: "history")
        if let keep { self = JobHistory(keep: keep, payload: payload, key: key) }
    }

    /// The setting in the effective configuration.
    private static func shown(_ history: JobHistory?) -> EffectiveValue {
        guard let history else { return .text("off") }
        var entries = [
            EffectiveEntry(key: "keep", value: .text(ValueRule.duration(SettingLimits.keepHistory).text(history.keep))),
            EffectiveEntry(key: "payload", value: .text("\(history.payload)")),
        ]
        if let key = history.key {
            entries.append(EffectiveEntry(key: "key", value: .text(JSONPath(segments: key).text)))
        }
        return .map(entries)
    }
}
