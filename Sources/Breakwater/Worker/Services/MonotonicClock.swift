import Glibc

/// A clock that a worker can be given: the machine's, or one that a test advances.
package protocol WorkerClock: Clock, Sendable where Duration == Swift.Duration, Instant == MonotonicClock.Instant {}

/// The clock that `ContinuousClock` reads, in whole nanoseconds.
///
/// Its instants have a fixed size. The compiler does not know the size of a `ContinuousClock.Instant`, and copies
/// whatever holds one step by step, by way of the runtime; that costs too much for what is copied once for each job.
package struct MonotonicClock: WorkerClock {
    /// A point in time.
    package struct Instant: InstantProtocol {
        private var nanoseconds: Int64

        fileprivate init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

        package static var now: Instant {
            var time = timespec()
            clock_gettime(CLOCK_BOOTTIME, &time)
            return Instant(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
        }

        package func advanced(by duration: Duration) -> Instant {
            Instant(nanoseconds: nanoseconds &+ duration.nanoseconds)
        }

        package func duration(to other: Instant) -> Duration { .nanoseconds(other.nanoseconds &- nanoseconds) }

        package static func < (one: Instant, other: Instant) -> Bool { one.nanoseconds < other.nanoseconds }

        package static func + (instant: Instant, duration: Duration) -> Instant { instant.advanced(by: duration) }

        package static func += (instant: inout Instant, duration: Duration) { instant = instant + duration }

        package static func - (instant: Instant, duration: Duration) -> Instant {
            Instant(nanoseconds: instant.nanoseconds &- duration.nanoseconds)
        }

        package static func - (end: Instant, start: Instant) -> Duration { start.duration(to: end) }

        /// The same point in time on both clocks, so that one of these always is the same instant.
        private static let both = (here: Instant.now, there: ContinuousClock.now)

        /// For code that needs an instant of `ContinuousClock`.
        var continuous: ContinuousClock.Instant { Self.both.there + (self - Self.both.here) }

        /// - Parameter instant: The point in time; beyond a hundred years from now, it counts as that.
        init(_ instant: ContinuousClock.Instant) {
            let longest = HandlerSettings.longestDuration
            self = Self.both.here + max(.zero - longest, min(longest, instant - Self.both.there))
        }
    }

    package init() {}

    package var now: Instant { .now }
    package var minimumResolution: Duration { .nanoseconds(1) }

    package func sleep(until deadline: Instant, tolerance: Duration? = nil) async throws {
        try await Task.sleep(for: max(.zero, deadline - .now), tolerance: tolerance)
    }
}
