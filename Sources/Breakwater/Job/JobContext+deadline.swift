import Foundation

extension JobContext {
    /// The deadline for handlers outside this process, in the format of RFC 3339 in UTC with milliseconds.
    package var deadlineText: String {
        Date(timeIntervalSinceNow: remainingTime.inSeconds)
            .formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }
}
