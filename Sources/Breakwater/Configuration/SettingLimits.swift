/// The allowed values of each setting. They are the same in Swift, in a configuration file, in the environment and in
/// flags.
package enum SettingLimits {
    private static let day = Duration.seconds(86_400)
    /// The longest duration. Added to a time, it stays within the range of clocks and of the database.
    package static let longest = day * 3650

    package static let concurrency = 1...10_000
    package static let lease = Duration.seconds(1)...day
    package static let shutdownGrace = Duration.zero...day
    package static let pollInterval = Duration.milliseconds(10)...day
    /// The lengths of a queue, a kind, a worker's name or a circuit's shared key, in bytes of UTF-8.
    package static let nameBytes = 1...200

    package static let timeout = Duration.milliseconds(1)...longest
    package static let keepResults = Duration.zero...longest
    package static let keepHistory = Duration.seconds(3600)...longest

    package static let maxAttempts = 1...1_000_000
    package static let maxAge = Duration.seconds(1)...longest
    /// The limits of `base` and `cap`.
    package static let retryDelay = Duration.zero...longest
    package static let retryFactor = 1.0...1000
    /// Retries as a share of first attempts.
    package static let retryBudget = 0.0...100

    /// The limits of `consecutive_failures` and `minimum_calls`.
    package static let calls = 1...1_000_000
    package static let slowCall = Duration.milliseconds(1)...longest
    /// The database keeps the tallies of twice the longest window.
    package static let window = Duration.seconds(1)...day
    package static let windowCalls = 1...10_000
    /// The limits of `open_for` and `open_cap`.
    package static let openTime = Duration.milliseconds(1)...day * 366
    package static let openFactor = 1.0...1000
    package static let halfOpenFor = Duration.seconds(1)...longest
    /// The limits of `probes` and `successes_to_close`.
    package static let probes = 1...10_000
    package static let ramp = Duration.zero...longest

    /// The limits of a limit's `concurrency` and `burst`.
    package static let limitedConcurrency = 1...1_000_000
    /// The limits of a limit's rate: one start a year to a million a second.
    package static let startsPerSecond = 1.0 / 31_622_400...1_000_000

    package static let priority = 0...9
    package static let uniqueKeyBytes = 1...500
    /// The interval of a schedule.
    package static let every = Duration.seconds(1)...longest
    package static let missedAfter = Duration.seconds(1)...longest
    package static let missedLimit = 1...1000
}

/// Collects the invalid settings, each with its key, its value and what is allowed.
struct SettingFaults {
    private(set) var faults: [String] = []

    mutating func require(_ isMet: Bool, _ fault: String) {
        if !isMet { faults.append(fault) }
    }

    mutating func check(_ key: String, _ value: Int?, _ limits: ClosedRange<Int>) {
        guard let value else { return }
        require(limits.contains(value), "\(key) is \(value); it must be \(limits.lowerBound) to \(limits.upperBound)")
    }

    mutating func check(_ key: String, _ value: Double?, _ limits: ClosedRange<Double>) {
        guard let value else { return }
        require(limits.contains(value), "\(key) is \(value); it must be \(limits.lowerBound) to \(limits.upperBound)")
    }

    mutating func check(_ key: String, _ value: Duration?, _ limits: ClosedRange<Duration>) {
        guard let value else { return }
        let allowed = "\(limits.lowerBound.text) to \(limits.upperBound.text)"
        require(limits.contains(value), "\(key) is \(value); it must be \(allowed)")
    }

    mutating func checkShare(_ key: String, _ value: Double?) {
        guard let value else { return }
        require(value > 0 && value <= 1, "\(key) is \(value); it must be above 0% and at most 100%")
    }

    mutating func add(_ others: [String], in section: String) {
        faults += others.map { "\(section).\($0)" }
    }
}
