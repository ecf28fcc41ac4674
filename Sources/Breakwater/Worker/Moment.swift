import Glibc

/// A point in time by the clock that `ContinuousClock` reads, in whole nanoseconds.
///
/// For what is copied once for each job: the compiler does not know the size of a `ContinuousClock.Instant`, and whatever
/// holds one is copied step by step, by way of the runtime.
package struct Moment: Sendable, Hashable, Comparable {
    private var nanoseconds: Int64

    package static var now: Moment {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return Moment(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    package static func < (one: Moment, other: Moment) -> Bool { one.nanoseconds < other.nanoseconds }

    package static func + (moment: Moment, duration: Duration) -> Moment {
        Moment(nanoseconds: moment.nanoseconds &+ duration.nanoseconds)
    }

    package static func += (moment: inout Moment, duration: Duration) { moment = moment + duration }

    package static func - (moment: Moment, duration: Duration) -> Moment {
        Moment(nanoseconds: moment.nanoseconds &- duration.nanoseconds)
    }

    package static func - (end: Moment, start: Moment) -> Duration {
        .nanoseconds(end.nanoseconds &- start.nanoseconds)
    }

    /// The same point in time on both clocks, so that one moment always is the same instant.
    private static let both = (moment: Moment.now, instant: ContinuousClock.now)

    /// For those who need an instant.
    var instant: ContinuousClock.Instant { Self.both.instant + (self - Self.both.moment) }

    /// - Parameter instant: The point in time; beyond a hundred years from now, it counts as that.
    init(_ instant: ContinuousClock.Instant) {
        let longest = HandlerSettings.longestDuration
        self = Self.both.moment + max(.zero - longest, min(longest, instant - Self.both.instant))
    }

    private init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }
}
