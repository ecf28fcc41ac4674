import Metrics

/// Counts the failures of each circuit by their names. Handlers choose the names freely, so only the first fifty names
/// of a circuit are counted by themselves.
struct FailureNames {
    /// How many names of a circuit have a series of their own.
    static let most = 50

    private struct Key: Hashable {
        var circuit: String
        var name: String
    }

    private var counters: [Key: Counter] = [:]
    /// How many names of each circuit there are.
    private var known: [String: Int] = [:]
    private var pending: [Key: Int] = [:]

    /// Counts a failure, for the next flush.
    mutating func count(_ ending: FinishedRun.Ending, of circuit: String, in factory: any MetricsFactory) {
        var key = Key(circuit: circuit, name: ending.failure?.name ?? ending.className)
        if counters[key] == nil {
            if known[circuit, default: 0] < Self.most {
                known[circuit, default: 0] += 1
            } else {
                key.name = "other"
            }
            counters[key] = counters[key] ?? Metric.circuitFailures.counter(key.circuit, key.name, in: factory)
        }
        pending[key, default: 0] += 1
    }

    /// Adds what was counted since the last flush to the counters.
    mutating func flush() {
        for (key, count) in pending { counters[key]?.increment(by: count) }
        pending.removeAll(keepingCapacity: true)
    }
}
