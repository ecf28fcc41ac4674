import Breakwater

extension RetryPolicy {
    /// Reads `retry`.
    ///
    /// - Parameters:
    ///   - section: The file's section, perhaps without keys.
    ///   - defaults: What holds for the keys that are left out.
    init(_ section: ConfigurationSection, defaults: RetryPolicy) {
        self = defaults
        maxAttempts = section.read("max_attempts", .whole(1...1_000_000), default: defaults.maxAttempts)
        backoff = section.read("backoff", .choice, default: defaults.backoff)
        base = section.read("base", .duration(atLeast: .zero), default: defaults.base)
        factor = section.read("factor", .number(1...1000), default: defaults.factor)
        cap = section.read("cap", .duration(atLeast: .zero), default: defaults.cap)
        jitter = section.read("jitter", .choice, default: defaults.jitter)
        let pattern = ValueRule.text("the name of a failure, which may end in *,", bytes: 1...200)
        retryOn = section.readList("retry_on", of: pattern, default: defaults.retryOn)
        discardOn = section.readList("discard_on", of: pattern, default: defaults.discardOn)
        if base > cap {
            section.report(
                section.has("base") ? "base" : "cap",
                "base, \(base.text), is longer than cap, \(cap.text); give a base of at most cap, or a longer cap"
            )
        }
    }
}
