import Breakwater

extension RetryPolicy {
    /// Reads `retry`.
    ///
    /// - Parameters:
    ///   - section: The file's section, perhaps without keys.
    ///   - defaults: The values for keys that are left out.
    init(_ section: ConfigurationSection, defaults: RetryPolicy) {
        self = defaults
        maxAttempts = section.read("max_attempts", .whole(SettingLimits.maxAttempts), default: defaults.maxAttempts)
        let ages = ValueRule.duration(SettingLimits.maxAge).orOff()
        maxAge = section.read("max_age", ages, default: defaults.maxAge)
        backoff = section.read("backoff", .choice, default: defaults.backoff)
        base = section.read("base", .duration(SettingLimits.retryDelay), default: defaults.base)
        factor = section.read("factor", .number(SettingLimits.retryFactor), default: defaults.factor)
        cap = section.read("cap", .duration(SettingLimits.retryDelay), default: defaults.cap)
        jitter = section.read("jitter", .choice, default: defaults.jitter)
        budget = section.read("budget", ValueRule.ratio.orOff(), default: defaults.budget)
        retryOn = section.readList("retry_on", of: .failureName, default: defaults.retryOn)
        discardOn = section.readList("discard_on", of: .failureName, default: defaults.discardOn)
        onlyOn = section.readList("only_on", of: .failureName, default: defaults.onlyOn)
        section.refuseNames(in: "discard_on", discardOn, alsoIn: "retry_on", retryOn)
        section.refuseNames(in: "discard_on", discardOn, alsoIn: "only_on", onlyOn)
        if base > cap {
            section.report(
                section.has("base") ? "base" : "cap",
                "base, \(base.text), is longer than cap, \(cap.text); give a base of at most cap, or a longer cap"
            )
        }
        if backoff != .exponential, section.has("factor") {
            section.warn("factor", "it has no effect with the backoff \(backoff.rawValue)")
        }
        if backoff == .decorrelated, section.has("jitter") {
            section.warn("jitter", "it has no effect with the backoff decorrelated, which has its own")
        }
    }
}
