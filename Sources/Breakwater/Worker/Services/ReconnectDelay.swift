/// How long to wait before connecting again: doubling from 100 ms to 5 s, with full jitter, so that a fleet does not
/// reconnect all at once.
struct ReconnectDelay {
    private var failures = 0

    mutating func reset() { failures = 0 }

    mutating func next() -> Duration {
        let longest = min(5000, 100 << min(failures, 6))
        failures += 1
        return .milliseconds(Int.random(in: (longest / 10)...longest))
    }
}
