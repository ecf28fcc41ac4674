import Breakwater
import CLibcurl
import Foundation

/// The `Retry-After` header of an answer (RFC 9110, 10.2.3).
enum RetryAfter {
    /// The longest wait. A longer one is reduced to this.
    static let longest = Duration.seconds(86_400)

    /// How long to wait.
    ///
    /// - Parameters:
    ///   - value: Seconds, or a date in any of the three formats of HTTP.
    ///   - date: The answer's own `Date` header. With it, the wait is correct even if the worker's clock is wrong.
    ///   - now: The time by the worker's clock, for an answer without a date.
    /// - Returns: Whole seconds: zero for a date in the past, at most ``longest``; nil if the value is neither seconds
    ///   nor a date.
    static func duration(_ value: String?, date: String?, now: Date = Date()) -> Duration? {
        guard let value = value?.trimmingCharacters(in: .whitespaces), let first = value.utf8.first else { return nil }
        if value.utf8.allSatisfy((UInt8(ascii: "0")...UInt8(ascii: "9")).contains) {
            // A number too large for an integer exceeds the longest wait.
            return Int64(value).map { min(.seconds($0), longest) } ?? longest
        }
        guard first >= UInt8(ascii: "A"), let time = seconds(of: value) else { return nil }
        let reference = date.flatMap(seconds) ?? now.timeIntervalSince1970
        // A fraction of a second is rounded up, because a job that runs a moment too early would be throttled again.
        return min(max(.seconds((time - reference).rounded(.up)), .zero), longest)
    }

    /// The date in seconds since 1970.
    private static func seconds(of date: String) -> Double? {
        let time = curl_getdate(date, nil)
        return time == -1 ? nil : Double(time)
    }
}
