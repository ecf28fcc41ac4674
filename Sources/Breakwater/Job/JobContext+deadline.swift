import Foundation

extension JobContext {
    /// The deadline as handlers outside this process read it: RFC 3339 in UTC, with milliseconds.
    package var deadlineText: String {
        Date(timeIntervalSinceNow: remainingTime.inSeconds)
            .formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }
}
