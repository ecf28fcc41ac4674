import Metrics

/// The handles of runs, by queue and kind, made when the first run of each is settled: only what really occurs costs
/// anything. Owned by the claim loop.
///
/// The counts of a batch are gathered and added at once; a batch is mostly of one kind, so the last handles are tried
/// first.
struct RunMetrics {
    private struct Key: Hashable {
        var queue: String
        var kind: String
    }

    /// The handles of one queue and kind, and what they have not been told yet.
    private final class Cell {
        let key: Key
        /// By the class of the outcome.
        var outcomes: [String: (counter: Counter, count: Int)] = [:]
        /// By the effect, for all runs and for probes alone.
        var effects: [String: (counter: Counter, count: Int)] = [:]
        var probes: [String: Counter] = [:]
        let slow: Counter
        let run: Metrics.Timer
        let wait: Metrics.Timer
        let circuit: String

        init(_ key: Key, circuit: String, in factory: any MetricsFactory) {
            self.key = key
            self.circuit = circuit
            slow = Metric.slowCalls.counter(circuit, in: factory)
            run = Metric.run.timer(key.queue, key.kind, in: factory)
            wait = Metric.wait.timer(key.queue, key.kind, in: factory)
        }

        func count(_ run: FinishedRun, in factory: any MetricsFactory) {
            let ending = run.ending
            if (outcomes[ending.className]?.count += 1) == nil {
                let counter = Metric.jobs.counter(key.queue, key.kind, ending.className, in: factory)
                outcomes[ending.className] = (counter, 1)
            }
            guard ending.className != "released" else { return }
            self.run.recordNanoseconds(run.runTime.nanoseconds)
            wait.recordNanoseconds(run.waitTime.nanoseconds)
            let effect = ending.isSuccess ? "succeeded" : ending.effect.rawValue
            if (effects[effect]?.count += 1) == nil {
                effects[effect] = (Metric.calls.counter(circuit, effect, in: factory), 1)
            }
            if ending.isSlow { slow.increment() }
            guard run.isProbe else { return }
            if probes[effect]?.increment() == nil {
                probes[effect] = Metric.probes.counter(circuit, effect, in: factory)
                probes[effect]?.increment()
            }
        }

        func flush() {
            for (name, cell) in outcomes where cell.count > 0 {
                cell.counter.increment(by: cell.count)
                outcomes[name]?.count = 0
            }
            for (name, cell) in effects where cell.count > 0 {
                cell.counter.increment(by: cell.count)
                effects[name]?.count = 0
            }
        }
    }

    /// The circuit of each kind, by the name under which it is counted.
    private let circuits: [String: String]
    private var cells: [Key: Cell] = [:]
    private var last: Cell?
    private var touched: [Cell] = []

    init(_ handlers: [HandlerRegistration]) {
        circuits = Dictionary(handlers.map { ($0.kind, $0.circuitName) }) { first, _ in first }
    }

    mutating func count(_ run: FinishedRun, in factory: any MetricsFactory) {
        if let last, last.key.kind == run.kind, last.key.queue == run.queue {
            last.count(run, in: factory)
            return
        }
        let key = Key(queue: run.queue, kind: run.kind)
        let cell = cells[key] ?? Cell(key, circuit: circuits[run.kind] ?? run.kind, in: factory)
        cells[key] = cell
        if !touched.contains(where: { $0 === cell }) { touched.append(cell) }
        last = cell
        cell.count(run, in: factory)
    }

    mutating func flush() {
        for cell in touched { cell.flush() }
        touched = []
        last = nil
    }
}

extension HandlerRegistration {
    /// The name under which the circuit of this kind is measured: that of the circuit it shares, else the kind.
    var circuitName: String {
        if case .shared(let name) = settings.circuit.key { name } else { kind }
    }
}
