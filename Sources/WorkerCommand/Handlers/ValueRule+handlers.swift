import Breakwater

extension ValueRule where Value == String {
    /// The name of a failure, such as `http.503`, or a prefix of names, such as `http.5*`.
    static var failureName: Self {
        let bytes = 1...200
        return Self(
            allowed: "the name of a failure, which may end in *, of 1 to 200 bytes, without control characters",
            parse: { text in
                if text.dropLast().contains("*") {
                    throw ValueRefusal("'\(text)' has a * before its end; only the last character may be one: http.5*")
                }
                return bytes.contains(text.utf8.count) && !text.unicodeScalars.contains { $0.isControl } ? text : nil
            },
            text: { $0 }
        )
    }

    /// The kind of a job.
    static var kind: Self { .text("a kind", bytes: SettingLimits.nameBytes) }
}

extension ValueRule where Value == Double {
    /// A share that may exceed 1: `20%`, `0.2`, `150%`.
    static var ratio: Self {
        Self(
            allowed: "a share from 0% to 10000%, such as 20% or 0.2",
            parse: { text in
                let value = text.hasSuffix("%") ? Double(text.dropLast()).map { $0 / 100 } : Double(text)
                return value.flatMap { SettingLimits.retryBudget.contains($0) ? $0 : nil }
            },
            text: { "\(($0 * 100).shortText)%" }
        )
    }
}

extension ValueRule where Value == CircuitPolicy.Window {
    /// A time, `60s`, or a number of calls, `100 calls`.
    static var window: Self {
        let times = ValueRule<Duration>.duration(SettingLimits.window)
        let counts = ValueRule<Int>.whole(SettingLimits.windowCalls)
        return Self(
            allowed: "a duration from 1s to 1d, such as 60s, or a number from 1 to 10000 of calls, such as 100 calls",
            parse: { text in
                if Double(text) != nil {
                    throw ValueRefusal("'\(text)' has no unit; write \(text)s for a time, or \(text) calls for a count")
                }
                if let match = text.wholeMatch(of: /([0-9]+) ?calls?/) {
                    return try counts.parse(String(match.1)).map { .calls($0) }
                }
                // Any other text that is no duration is refused with a message that allows both forms.
                return try (try? Duration(text: text)).flatMap { try times.parse($0.text) }.map { .time($0) }
            },
            text: { window in
                switch window {
                case .time(let time): time.text
                case .calls(let calls): "\(calls) calls"
                }
            }
        )
    }
}

extension [String] {
    /// The first element that is also in another list.
    func first(alsoIn others: [String]) -> String? { first { others.contains($0) } }
}

extension ConfigurationSection {
    /// Refuses a failure's name that is in two lists with opposite meanings.
    func refuseNames(in key: String, _ names: [String], alsoIn other: String, _ others: [String]) {
        guard let name = names.first(alsoIn: others) else { return }
        report(has(key) ? key : other, "'\(name)' is in both \(key) and \(other); keep it in one of them")
    }
}

extension Duration {
    /// A duration of this many days of 24 hours.
    static func days(_ count: Int64) -> Duration { .seconds(count * 86_400) }
}
