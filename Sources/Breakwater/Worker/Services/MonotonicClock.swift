import Glibc

/// The clock of a worker: the machine's, or one that a test advances.
package protocol WorkerClock: Clock, Sendable where Duration == Swift.Duration, Instant == MonotonicClock.Instant {}

/// The same clock as `ContinuousClock`, in whole nanoseconds.
///
/// Its instants have a size that the compiler knows. The size of a `ContinuousClock.Instant` is unknown at compile
/// time, so types that contain one are copied by the runtime. That is too expensive for values that are copied for each
/// job.
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

        /// One point in time on both clocks, from which instants are converted in both directions.
        private static let both = (here: Instant.now, there: ContinuousClock.now)

        /// The instant of `ContinuousClock`.
        var continuous: ContinuousClock.Instant { Self.both.there + (self - Self.both.here) }

        /// - Parameter instant: The point in time. It is limited to a hundred years from now.
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
