import Foundation

extension Duration {
    /// The duration in seconds.
    var inSeconds: Double {
        Double(components.seconds) + Double(components.attoseconds) / 1e18
    }

    /// The duration for people, in at most two units: `850 ms`, `12 s`, `4 min 10 s`, `3 h 5 min`, `2 d 4 h`.
    var short: String {
        let seconds = inSeconds
        guard seconds.isFinite, abs(seconds) < 1e12 else { return "for ever" }
        if seconds < 0 { return "0 s" }
        if seconds < 1 { return "\(Int(seconds * 1000)) ms" }
        let whole = Int(seconds)
        let units = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)]
        guard let first = units.firstIndex(where: { whole >= $0.1 }) else { return "0 s" }
        let (name, size) = units[first]
        let text = "\(whole / size) \(name)"
        guard first + 1 < units.count, whole / size < 10 else { return text }
        let rest = whole % size / units[first + 1].1
        return rest > 0 ? "\(text) \(rest) \(units[first + 1].0)" : text
    }
}

extension Int {
    /// The number with thin spaces between groups of three digits.
    var grouped: String {
        var digits = ""
        for (place, digit) in String(magnitude).reversed().enumerated() {
            if place > 0, place.isMultiple(of: 3) { digits.append("\u{202F}") }
            digits.append(digit)
        }
        return (self < 0 ? "−" : "") + String(digits.reversed())
    }

    /// The grouped number, with a plus if counting stopped at the cap.
    func grouped(cap: Int) -> String { self >= cap ? "\(cap.grouped)+" : grouped }

    /// `1 job`, `2 jobs`.
    func of(_ one: String, _ many: String? = nil) -> String { "\(grouped) \(self == 1 ? one : many ?? one + "s")" }
}

extension Double {
    /// A share as a percentage: `12 %`, or `0.4 %` if it is small.
    var percent: String {
        let percent = self * 100
        if percent > 0, percent < 10, percent != percent.rounded() {
            return "\((percent * 10).rounded() / 10) %"
        }
        return "\(Int(percent.rounded())) %"
    }
}

extension Date {
    /// `2026-11-24 13:31:08Z`.
    var stamp: String {
        guard timeIntervalSince1970.isFinite, abs(timeIntervalSince1970) < 1e11 else { return "never" }
        return formatted(Date.ISO8601FormatStyle(dateTimeSeparator: .space, timeZone: .gmt))
    }
}

/// A point in time as its distance from now. The time itself is in a tooltip.
func ago(_ date: Date, now: Date) -> HTML {
    let distance = Duration.seconds(now.timeIntervalSince(date))
    let text =
        if distance < .zero { "in \((.zero - distance).short)" } else if distance < .seconds(1) { "just now" } else {
            "\(distance.short) ago"
        }
    return el(.time, .named("datetime", date.iso), .named("title", date.stamp), text: text)
}

/// A point in time as a date and time.
func stamp(_ date: Date) -> HTML { el(.time, .named("datetime", date.iso), text: date.stamp) }

/// The time until something is due. A script counts it down.
func countdown(_ duration: Duration, then: String) -> HTML {
    guard duration > .zero else { return HTML(then) }
    let seconds = duration.inSeconds
    return el(
        .span,
        .class("countdown"),
        .named("data-seconds", "\((seconds * 10).rounded() / 10)"),
        .named("data-then", then),
        text: "in \(duration.short)"
    )
}

extension Date {
    fileprivate var iso: String {
        guard timeIntervalSince1970.isFinite, abs(timeIntervalSince1970) < 1e11 else { return "" }
        return formatted(.iso8601)
    }
}

extension String {
    /// The text with the database's times cut to the second: `2026-11-24 13:31:08Z`.
    var withoutFractions: String {
        replacing(/(\d{2}:\d{2}:\d{2})(\.\d+)?\+00/) { "\($0.1)Z" }
    }
}
