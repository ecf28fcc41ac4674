import Glibc
import Synchronization

extension JobContext {
    /// The deadline for handlers outside this process, in the format of RFC 3339 in UTC with milliseconds.
    package var deadlineText: String { DeadlineTexts.shared.text(after: remainingTime) }
}

/// Makes the texts of deadlines. Formatting a date takes longer than the rest of a job's message, so the text of each
/// second is made once.
private final class DeadlineTexts: Sendable {
    static let shared = DeadlineTexts()

    private let last = Mutex<(second: Int, text: String)>((0, "1970-01-01T00:00:00"))

    /// The time after a duration from now.
    func text(after remaining: Duration) -> String {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let (seconds, attoseconds) = remaining.components
        var second = now.tv_sec + Int(seconds)
        var millisecond = now.tv_nsec / 1_000_000 + Int(attoseconds / 1_000_000_000_000_000)
        if millisecond >= 1000 {
            second += 1
            millisecond -= 1000
        }
        let prefix = last.withLock { last in
            if last.second != second { last = (second, Self.text(of: second)) }
            return last.text
        }
        let digits = String(millisecond)
        return prefix + (millisecond < 10 ? ".00" : millisecond < 100 ? ".0" : ".") + digits + "Z"
    }

    private static func text(of second: Int) -> String {
        var second = second
        var parts = tm()
        gmtime_r(&second, &parts)
        func padded(_ number: Int32, _ width: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        let date = "\(padded(parts.tm_year + 1900, 4))-\(padded(parts.tm_mon + 1, 2))-\(padded(parts.tm_mday, 2))"
        return "\(date)T\(padded(parts.tm_hour, 2)):\(padded(parts.tm_min, 2)):\(padded(parts.tm_sec, 2))"
    }
}
