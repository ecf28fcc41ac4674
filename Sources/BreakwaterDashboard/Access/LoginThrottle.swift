/// Slows down whoever guesses passwords.
///
/// Five failures in a row are free; then each doubles the wait, from a second to five minutes, for the same name from the
/// same address. And from one address no more than thirty failures count in ten minutes, whatever the names.
struct LoginThrottle: Sendable {
    typealias Instant = ContinuousClock.Instant

    private struct Record {
        var failures = 0
        var last: Instant
    }

    private struct Key: Hashable {
        var user: String
        var peer: String
    }

    private static let freeFailures = 5
    private static let freeFailuresOfPeer = 30
    private static let longestWait = Duration.seconds(300)
    private static let memory = Duration.seconds(600)
    /// More are not remembered: the oldest go.
    private static let mostRecords = 10_000

    private var records: [Key: Record] = [:]

    /// How long this login must wait; nil when it may be tried now.
    func wait(user: String, peer: String, now: Instant) -> Duration? {
        let ofUser = wait(Key(user: user, peer: peer), free: Self.freeFailures, now: now)
        let ofPeer = wait(Key(user: "", peer: peer), free: Self.freeFailuresOfPeer, now: now)
        let longest = max(ofUser, ofPeer)
        return longest > .zero ? longest : nil
    }

    /// Notes a wrong password.
    mutating func failed(user: String, peer: String, now: Instant) {
        for key in [Key(user: user, peer: peer), Key(user: "", peer: peer)] {
            var record = records[key] ?? Record(last: now)
            if now - record.last > Self.memory { record.failures = 0 }
            record.failures += 1
            record.last = now
            records[key] = record
        }
        if records.count > Self.mostRecords {
            records = records.filter { now - $0.value.last <= Self.memory }
            if records.count > Self.mostRecords { records = [:] }
        }
    }

    /// Notes a right one.
    mutating func succeeded(user: String, peer: String) {
        records[Key(user: user, peer: peer)] = nil
    }

    private func wait(_ key: Key, free: Int, now: Instant) -> Duration {
        guard let record = records[key], record.failures >= free, now - record.last <= Self.memory else { return .zero }
        let wait = min(Self.longestWait, .seconds(1 << min(record.failures - free, 10)))
        return max(.zero, record.last + wait - now)
    }
}
