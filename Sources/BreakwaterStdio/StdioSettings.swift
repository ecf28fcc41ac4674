/// The settings of a pool of processes.
public struct StdioSettings: Sendable, Equatable {
    /// The number of processes, 1 to 256. Defaults to 1.
    public var processes = 1
    /// How many jobs a process may run at once, 1 to 1,000. A process that can do less says so. Defaults to 1.
    public var jobs = 1
    /// How many more jobs are sent to a process before it has answered others, 0 to 1,000. They wait inside the
    /// process, so that it has the next job at once, and their timeouts run meanwhile. Defaults to 0.
    public var ahead = 0
    /// When a process is replaced by a new one.
    public var recycle = Recycling()
    /// How long a process may take from its start to its hello, 1 millisecond to 1 day. Defaults to 30 seconds.
    public var startTimeout = Duration.seconds(30)
    /// How long a process that sends heartbeats may write nothing while it has a job, 1 second to 1 day. The process is
    /// asked for a heartbeat three times as often. Defaults to 30 seconds.
    public var silence = Duration.seconds(30)
    /// How long a process has to end a cancelled run, to exit after its last run, and to end after SIGTERM, up to
    /// 1 hour. Defaults to 5 seconds.
    public var killAfter = Duration.seconds(5)
    /// The most bytes of one line that a process writes, 1 KiB to 1 GiB. Defaults to 1 MiB.
    public var maxLineBytes = 1 << 20

    /// When a process is replaced by a new one. Nil means never.
    public struct Recycling: Sendable, Equatable {
        /// After this many jobs, 1 to 1,000,000,000. Defaults to nil.
        public var jobs: Int?
        /// After this long, 1 second to 10 years (3650 days). Defaults to nil.
        public var age: Duration?
        /// Once it uses more than this much resident memory, in bytes, 1 MiB to 1 TiB. Defaults to nil.
        public var memoryBytes: Int?

        /// The defaults.
        public init() {}
    }

    /// The defaults.
    public init() {}

    private static let day = Duration.seconds(86_400)
    package static let processesRange = 1...256
    package static let jobsRange = 1...1000
    package static let aheadRange = 0...1000
    package static let recycleJobsRange = 1...1_000_000_000
    package static let recycleAgeRange = Duration.seconds(1)...day * 3650
    package static let recycleMemoryRange = 1 << 20...1 << 40
    package static let startTimeoutRange = Duration.milliseconds(1)...day
    package static let silenceRange = Duration.seconds(1)...day
    package static let killAfterRange = Duration.zero ... .seconds(3600)
    package static let maxLineRange = 1 << 10...1 << 30

    /// How many jobs all processes take at once.
    package var capacity: Int { processes * (jobs + ahead) }

    /// The first invalid setting, in words; nil if all are valid.
    var fault: String? {
        func fault<Value: Comparable>(_ name: String, _ value: Value?, _ range: ClosedRange<Value>) -> String? {
            guard let value, !range.contains(value) else { return nil }
            return "\(name) is \(value): it must be \(range.lowerBound) to \(range.upperBound)"
        }
        return fault("processes", processes, Self.processesRange)
            ?? fault("jobs", jobs, Self.jobsRange)
            ?? fault("ahead", ahead, Self.aheadRange)
            ?? fault("recycle.jobs", recycle.jobs, Self.recycleJobsRange)
            ?? fault("recycle.age", recycle.age, Self.recycleAgeRange)
            ?? fault("recycle.memoryBytes", recycle.memoryBytes, Self.recycleMemoryRange)
            ?? fault("startTimeout", startTimeout, Self.startTimeoutRange)
            ?? fault("silence", silence, Self.silenceRange)
            ?? fault("killAfter", killAfter, Self.killAfterRange)
            ?? fault("maxLineBytes", maxLineBytes, Self.maxLineRange)
    }
}
