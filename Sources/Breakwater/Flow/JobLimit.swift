/// A limit on the jobs that run at once, or that start in a time, in the whole fleet.
///
/// It applies to one kind, to several kinds that name it, or to each value at a path of the payload by itself. The
/// database checks it when jobs are claimed, so it is never exceeded, whatever happens to workers.
public struct JobLimit: Sendable, Equatable {
    /// The name by which several kinds share the limit: 1 to 200 bytes. nil: the limit is the kind's own. Defaults to
    /// nil.
    public var name: String?
    /// The path of a payload's value, such as `["customer", "id"]`: each value has a limit of its own, and jobs without
    /// it share one. nil: one limit for all jobs. Defaults to nil.
    public var key: [String]?
    /// How many jobs may run at once, 1 to 1,000,000; nil for any number. Defaults to nil.
    public var concurrency: Int?
    /// How many jobs may start in a time; nil for any number. Defaults to nil.
    public var rate: Rate?
    /// How many jobs the rate lets start at once after a pause, 1 to 1,000,000; nil for what a tenth of a second allows,
    /// at least 1. Defaults to nil.
    public var burst: Int?
    /// The path of a number in the payload that says for how many a job counts; nil: each job counts for one. A job
    /// counts at most for as much as the limit allows. Defaults to nil.
    public var weight: [String]?

    /// A number of starts in a time, such as 600 in a minute.
    public struct Rate: Sendable, Equatable {
        /// How many jobs may start in ``period``, above 0.
        public var count: Double
        /// The time in which they may start, above zero.
        public var period: Duration

        /// Creates a rate.
        ///
        /// - Parameters:
        ///   - count: How many jobs may start in the period.
        ///   - period: The period.
        public init(_ count: Double, per period: Duration) {
            self.count = count
            self.period = period
        }

        /// Starts a second.
        package var perSecond: Double { count / period.inSeconds }
    }

    /// Creates a limit.
    ///
    /// - Parameters:
    ///   - concurrency: How many jobs may run at once. Defaults to any number.
    ///   - rate: How many jobs may start in a time. Defaults to any number.
    ///   - burst: How many may start at once after a pause. Defaults to what a tenth of a second allows.
    ///   - key: The path of the value that has a limit of its own. Defaults to one limit for all jobs.
    ///   - name: The name by which kinds share the limit. Defaults to none.
    public init(
        concurrency: Int? = nil,
        rate: Rate? = nil,
        burst: Int? = nil,
        key: [String]? = nil,
        name: String? = nil
    ) {
        self.concurrency = concurrency
        self.rate = rate
        self.burst = burst
        self.key = key
        self.name = name
    }

    /// The limit's name in `breakwater.flow_rule`: its own, or that of its kind and key.
    package func fullName(of kind: String) -> String {
        name ?? key.map { "\(kind) $.\($0.joined(separator: "."))" } ?? kind
    }

    /// The invalid settings.
    var faults: [String] {
        var faults = SettingFaults()
        faults.require(concurrency != nil || rate != nil, "it limits nothing; give concurrency, rate, or both")
        faults.require(rate != nil || burst == nil, "burst has no effect without a rate")
        faults.check("concurrency", concurrency, SettingLimits.limitedConcurrency)
        faults.check("burst", burst, SettingLimits.limitedConcurrency)
        if let rate {
            faults.require(
                rate.period > .zero && SettingLimits.startsPerSecond.contains(rate.perSecond),
                "rate is \(rate.count) in \(rate.period); it must be between one a year and 1000000 a second"
            )
        }
        faults.require(name?.isName != false, "name must have 1 to 200 bytes, without control characters")
        faults.require(key?.isEmpty != true, "key is empty; it must name a value of the payload")
        faults.require(weight?.isEmpty != true, "weight is empty; it must name a value of the payload")
        return faults.faults
    }
}

/// Makes the jobs of each value at a path of the payload run one after the other, in the order of their ids.
public struct KeyOrder: Sendable, Equatable {
    /// What happens to a key when one of its jobs becomes a dead letter.
    public enum OnDead: String, Sendable {
        /// The next job of the key runs.
        case `continue`
        /// The key waits until a user redrives or purges the dead letter.
        case halt
    }

    /// The path of the value, such as `["customer"]`. Jobs without it share one key.
    public var key: [String]
    /// What happens when a job of the key dies. Defaults to `continue`.
    public var onDead: OnDead

    /// Creates an order.
    ///
    /// - Parameters:
    ///   - key: The path of the value.
    ///   - onDead: What happens when a job of the key dies. Defaults to `continue`.
    public init(by key: [String], onDead: OnDead = .continue) {
        self.key = key
        self.onDead = onDead
    }
}
