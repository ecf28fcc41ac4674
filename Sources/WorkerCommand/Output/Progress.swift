import Foundation

/// Shows the progress of a long command on one line of standard error, which is overwritten at most five times a
/// second. Nothing is shown unless standard error is a terminal.
struct Progress {
    /// A participle, such as `enqueued`.
    private let done: String
    private let isShown: Bool
    private var lastShown: ContinuousClock.Instant?
    /// The counts of the last ten seconds with their times, from which the rate is computed.
    private var samples: [(at: ContinuousClock.Instant, count: Int)] = []

    /// - Parameters:
    ///   - done: A participle that says what was done, such as `enqueued`.
    ///   - isShown: Defaults to whether standard error is a terminal.
    init(_ done: String, isShown: Bool = isatty(STDERR_FILENO) == 1) {
        self.done = done
        self.isShown = isShown
        samples = [(.now, 0)]
    }

    /// Shows the progress.
    ///
    /// - Parameters:
    ///   - count: The number of items that are done.
    ///   - share: The share of the whole that is done, from 0 to 1; nil if it is unknown.
    mutating func show(_ count: Int, share: Double?) {
        guard isShown else { return }
        let now = ContinuousClock.now
        if let lastShown, lastShown.duration(to: now) < .milliseconds(200) { return }
        lastShown = now
        samples = samples.filter { $0.at.duration(to: now) < .seconds(10) } + [(now, count)]
        let first = samples[0]
        let seconds = first.at.duration(to: now) / .seconds(1)
        let rate = seconds > 0 ? Double(count - first.count) / seconds : 0
        StandardErrorOutput().write("\r\(Self.text(count, done: done, share: share, rate: rate))\u{1B}[K")
    }

    /// Clears the line for a message that follows.
    func end() {
        if isShown, lastShown != nil { StandardErrorOutput().write("\r\u{1B}[K") }
    }

    /// `12,000 enqueued (26%), 3,400 a second, 10s left`.
    static func text(_ count: Int, done: String, share: Double?, rate: Double) -> String {
        var text = "\(count.groupedText) \(done)"
        if let share { text += " (\(Int(min(1, max(0, share)) * 100))%)" }
        text += ", \(Int(rate.rounded()).groupedText) a second"
        if let share, share > 0, rate > 0 {
            let left = Double(count) / share * (1 - share) / rate
            text += ", \(Duration.seconds(min(left, 1e9).rounded(.up)).shortText) left"
        }
        return text
    }
}

/// Limits the rate of a long command.
struct Pace {
    /// The most items a second; nil for no limit.
    var rate: Int?
    private let start = ContinuousClock.now

    init(rate: Int?) {
        self.rate = rate
    }

    /// The size of a portion that keeps the pace even: the items of a quarter of a second.
    ///
    /// - Parameter most: The largest portion.
    func portion(atMost most: Int) -> Int {
        rate.map { max(1, min(most, $0 / 4)) } ?? most
    }

    /// How long to wait after `count` items are done.
    func delay(after count: Int) -> Duration {
        guard let rate else { return .zero }
        return max(.zero, .seconds(Double(count) / Double(rate)) - start.duration(to: .now))
    }
}

extension Int {
    /// The number with commas between the thousands.
    var groupedText: String {
        var text = ""
        for (place, digit) in "\(magnitude)".reversed().enumerated() {
            if place > 0, place % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return (self < 0 ? "-" : "") + String(text.reversed())
    }
}
