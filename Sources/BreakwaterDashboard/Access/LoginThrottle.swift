import BreakwaterEndpoints

/// Slows down clients that guess passwords.
///
/// An attempt is counted before the password is checked, so that many concurrent attempts do not evade the limit. There
/// are three separate counts. A count ends after ten minutes without a failure:
///
/// - attempts for one name from one address: five failures are free,
/// - attempts from one address with any names: thirty are free,
/// - attempts for one name from any addresses: a hundred are free.
///
/// After that, each failure doubles the wait, from a second to five minutes. The second and the third count do not
/// apply to a user who has logged in from the same address before. So an attacker who guesses from elsewhere, or
/// guesses other names, does not lock that user out.
struct LoginThrottle: Sendable {
    typealias Instant = ContinuousClock.Instant

    private struct Record {
        /// Passwords that were wrong.
        var failures = 0
        /// Passwords that are being checked.
        var pending = 0
        /// When the last wrong password was refused or the last attempt was admitted.
        var last: Instant
        /// When the last wrong password was refused.
        var lastFailure: Instant?

        var count: Int { failures + pending }

        func isForgotten(at now: Instant) -> Bool {
            pending == 0 && lastFailure.map { now - $0 > LoginThrottle.memory } ?? true
        }
    }

    private enum Key: Hashable {
        case pair(user: String, client: ClientAddress?)
        case client(ClientAddress?)
        case user(String)

        /// How many failures cause no wait.
        var free: Int {
            switch self {
            case .pair: 5
            case .client: 30
            case .user: 100
            }
        }
    }

    private static let longestWait = Duration.seconds(300)
    private static let memory = Duration.seconds(600)
    /// The most records that are kept. If there are more, the oldest quarter is dropped.
    static let mostRecords = 10_000
    /// How many addresses are remembered for each user.
    private static let mostKnown = 20

    private var records: [Key: Record] = [:]
    /// The addresses from which each user has logged in, the latest last.
    private var known: [String: [ClientAddress]] = [:]

    /// Counts an attempt as pending, unless it must wait.
    ///
    /// - Returns: How long the attempt must wait; nil if it was counted. In that case report its end by
    ///   ``failed(user:client:now:)``, ``succeeded(user:client:)`` or ``withdraw(user:client:)``.
    mutating func admit(user: String, client: ClientAddress?, now: Instant) -> Duration? {
        let keys = Self.keys(user, client)
        let judged = isKnown(user, client) ? [.pair(user: user, client: client)] : keys
        let longest: Duration = judged.map { wait($0, now: now) }.max() ?? .zero
        guard longest == .zero else { return longest }
        for key in keys {
            var record = records[key] ?? Record(last: now)
            if record.isForgotten(at: now) { record.failures = 0 }
            record.pending += 1
            record.last = now
            records[key] = record
        }
        if records.count > Self.mostRecords { forgetOldest(now: now) }
        return nil
    }

    /// Records that the attempt's password was wrong.
    mutating func failed(user: String, client: ClientAddress?, now: Instant) {
        for key in Self.keys(user, client) {
            var record = records[key] ?? Record(pending: 1, last: now)
            record.pending = max(0, record.pending - 1)
            record.failures += 1
            record.last = now
            record.lastFailure = now
            records[key] = record
        }
    }

    /// Records that the attempt's password was right.
    mutating func succeeded(user: String, client: ClientAddress?) {
        withdraw(user: user, client: client)
        records[.pair(user: user, client: client)]?.failures = 0
        guard let client else { return }
        var addresses = known[user, default: []].filter { $0 != client }
        addresses.append(client)
        known[user] = addresses.suffix(Self.mostKnown)
    }

    /// Removes an attempt whose password was not checked.
    mutating func withdraw(user: String, client: ClientAddress?) {
        for key in Self.keys(user, client) {
            guard var record = records[key] else { continue }
            record.pending = max(0, record.pending - 1)
            records[key] = record.count == 0 ? nil : record
        }
    }

    private static func keys(_ user: String, _ client: ClientAddress?) -> [Key] {
        [.pair(user: user, client: client), .client(client), .user(user)]
    }

    private func isKnown(_ user: String, _ client: ClientAddress?) -> Bool {
        client.map { known[user]?.contains($0) ?? false } ?? false
    }

    private func wait(_ key: Key, now: Instant) -> Duration {
        guard let record = records[key], record.count >= key.free, !record.isForgotten(at: now) else { return .zero }
        let wait = min(Self.longestWait, .seconds(1 << min(record.count - key.free, 10)))
        return max(.zero, record.last + wait - now)
    }

    /// Drops expired records and, if that is not enough, the oldest ones. Records with pending attempts stay.
    private mutating func forgetOldest(now: Instant) {
        records = records.filter { !$0.value.isForgotten(at: now) }
        guard records.count > Self.mostRecords else { return }
        let oldest = records.filter { $0.value.pending == 0 }.sorted { $0.value.last < $1.value.last }
        for (key, _) in oldest.prefix(Self.mostRecords / 4) { records[key] = nil }
    }
}
