/// A schedule that a worker's configuration names: it enqueues a job at each of its times, which are called slots.
///
/// Schedules are rows of `breakwater.schedule`, and belong to the whole fleet. When a worker starts, it sets the
/// schedules that its configuration names. Others are left as they are.
public struct Schedule: Sendable, Equatable {
    /// When the slots of a schedule are.
    public enum Times: Sendable, Equatable {
        /// The local times of a cron expression with five fields, such as `0 3 * * MON-FRI`, in the schedule's time zone.
        case cron(String)
        /// The multiples of an interval since 1970-01-01 00:00 UTC; whole seconds, 1 second to 3650 days.
        case every(Duration)
    }

    /// What becomes of slots that are later than ``missedAfter``.
    public enum Missed: String, Sendable, CaseIterable {
        /// They get one job together.
        case one
        /// Each gets a job; the last ``missedLimit`` of them at most.
        case all
        /// They get no job.
        case skip
    }

    /// What becomes of a slot while the schedule's last job still waits or runs.
    public enum Overlap: String, Sendable, CaseIterable {
        /// It gets a job all the same.
        case allow
        /// It gets no job.
        case skip
    }

    /// The name by which the fleet knows the schedule, 1 to 200 bytes.
    public var name: String
    /// When its slots are.
    public var times: Times
    /// The name of the time zone of a cron expression, such as `Europe/Berlin`. Defaults to `UTC`.
    public var timeZone = "UTC"
    /// The kind of its jobs.
    public var kind: String
    /// The queue of its jobs. Defaults to `default`.
    public var queue = "default"
    /// The payload of its jobs, a JSON object. Each job's payload gets the key `schedule` as well, with the schedule's
    /// `name`, the `slot`, and the `previous` slot that got a job. Defaults to `{}`.
    public var payload = "{}"
    /// The priority of its jobs, 0 (first) to 9 (last). Defaults to 5.
    public var priority = 5
    /// The unique key of its jobs, 1 to 500 bytes; nil for none. Defaults to nil.
    public var uniqueKey: String?
    /// What becomes of missed slots. Defaults to `one`.
    public var missed = Missed.one
    /// How late a slot may be before it is missed; 1 second to 3650 days. Defaults to 1 minute.
    public var missedAfter = Duration.seconds(60)
    /// The most missed slots that get a job each, 1 to 1000. Defaults to 100.
    public var missedLimit = 100
    /// What becomes of a slot while the schedule's last job still waits or runs. Defaults to `allow`.
    public var overlap = Overlap.allow

    /// - Parameters:
    ///   - name: The name by which the fleet knows it.
    ///   - times: When its slots are.
    ///   - kind: The kind of its jobs.
    public init(name: String, _ times: Times, kind: String) {
        self.name = name
        self.times = times
        self.kind = kind
    }
}

extension Schedule {
    /// The invalid settings, each with its key, its value and what is allowed. The database checks the cron expression
    /// and the time zone.
    var faults: [String] {
        var faults = SettingFaults()
        faults.require(kind.isName, "kind is '\(kind)'; it must have 1 to 200 bytes, without control characters")
        faults.require(queue.isName, "queue is '\(queue)'; it must have 1 to 200 bytes, without control characters")
        if case .every(let interval) = times {
            faults.check("every", interval, SettingLimits.every)
            faults.require(interval.components.attoseconds == 0, "every is \(interval); it must be whole seconds")
        }
        faults.check("priority", priority, SettingLimits.priority)
        faults.check("missed_after", missedAfter, SettingLimits.missedAfter)
        faults.check("missed_limit", missedLimit, SettingLimits.missedLimit)
        faults.require(
            uniqueKey.map { SettingLimits.uniqueKeyBytes.contains($0.utf8.count) } ?? true,
            "unique_key must have 1 to 500 bytes"
        )
        faults.require(
            JobResult.isStorable(payload) && payload.utf8.first { !$0.isJSONWhitespace } == UInt8(ascii: "{"),
            "payload is not a JSON object that Postgres can store"
        )
        return faults.faults
    }
}
