import Metrics

/// Counts the failures of each circuit by their names. Handlers choose the names freely, so only the first fifty names
/// of a circuit are counted separately.
struct FailureNames {
    /// The most names of a circuit that have their own series.
    static let most = 50

    private struct Key: Hashable {
        var circuit: String
        var name: String
    }

    private var counters: [Key: Counter] = [:]
    /// The number of names of each circuit.
    private var known: [String: Int] = [:]
    private var pending: [Key: Int] = [:]

    /// Counts a failure, for the next flush.
    mutating func count(_ ending: FinishedRun.Ending, of circuit: String, in factory: any MetricsFactory) {
        var key = Key(circuit: circuit, name: ending.failure?.name ?? ending.outcomeClass.rawValue)
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

    /// Adds the counts since the last flush to the counters.
    mutating func flush() {
        for (key, count) in pending { counters[key]?.increment(by: count) }
        pending.removeAll(keepingCapacity: true)
    }
}
