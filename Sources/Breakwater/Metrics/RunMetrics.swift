import Metrics

/// The handles of runs by queue and kind. They are made when the first run of each is settled, so that unused ones cost
/// nothing. The claim loop owns them.
///
/// The counts of a batch are summed before they are added to the counters. A batch usually has one kind, so the last
/// cell is tried first.
struct RunMetrics {
    private struct Key: Hashable {
        var queue: String
        var kind: String
    }

    /// A counter, and the count that has not been added to it yet.
    private struct Count {
        var counter: Counter
        var pending = 0
    }

    /// The handles of one queue and kind.
    private struct Cell {
        let key: Key
        let circuit: String
        let run: Metrics.Timer
        let wait: Metrics.Timer
        /// Successes are counted separately because they are the usual case.
        var successes = 0
        /// Counts by the class of the outcome.
        var outcomes: [OutcomeClass: Count] = [:]
        /// Counts by the effect on the circuit.
        var effects: [String: Count] = [:]
        let slow: Counter

        init(_ key: Key, circuit: String, in factory: any MetricsFactory) {
            self.key = key
            self.circuit = circuit
            run = Metric.run.timer(key.queue, key.kind, in: factory)
            wait = Metric.wait.timer(key.queue, key.kind, in: factory)
            slow = Metric.slowCalls.counter(circuit, in: factory)
        }

        mutating func count(_ finished: FinishedRun, in factory: any MetricsFactory) {
            let ending = finished.ending
            let isSuccess = ending.isSuccess
            if isSuccess {
                successes += 1
            } else {
                add(1, outcome: ending.outcomeClass, in: factory)
                guard ending.outcomeClass != .released else { return }
                add(1, effect: ending.effect.rawValue, in: factory)
            }
            run.recordNanoseconds(finished.times.run)
            wait.recordNanoseconds(finished.times.wait)
            if ending.isSlow { slow.increment() }
            if finished.isProbe {
                let effect = isSuccess ? "succeeded" : ending.effect.rawValue
                Metric.probes.counter(circuit, effect, in: factory).increment()
            }
        }

        private mutating func add(_ count: Int, outcome: OutcomeClass, in factory: any MetricsFactory) {
            outcomes[
                outcome,
                default: Count(counter: Metric.jobs.counter(key.queue, key.kind, outcome.rawValue, in: factory))
            ]
            .pending += count
        }

        private mutating func add(_ count: Int, effect: String, in factory: any MetricsFactory) {
            effects[effect, default: Count(counter: Metric.calls.counter(circuit, effect, in: factory))].pending +=
                count
        }

        mutating func flush(in factory: any MetricsFactory) {
            if successes > 0 {
                add(successes, outcome: .succeeded, in: factory)
                add(successes, effect: "succeeded", in: factory)
                successes = 0
            }
            for (name, count) in outcomes where count.pending > 0 {
                count.counter.increment(by: count.pending)
                outcomes[name]?.pending = 0
            }
            for (name, count) in effects where count.pending > 0 {
                count.counter.increment(by: count.pending)
                effects[name]?.pending = 0
            }
        }
    }

    /// The name under which each kind's circuit is counted.
    private let circuits: [String: String]
    private var cells: [Cell] = []
    private var places: [Key: Int] = [:]
    private var failures = FailureNames()

    init(_ handlers: [HandlerRegistration]) {
        circuits = Dictionary(handlers.map { ($0.kind, $0.circuitName) }) { first, _ in first }
    }

    /// Records a batch.
    ///
    /// - Parameters:
    ///   - runs: The batch.
    ///   - stale: The ids of stale runs, which changed nothing and are not counted.
    ///   - factory: Makes the handles.
    mutating func record(_ runs: [FinishedRun], stale: Set<Int64>, in factory: any MetricsFactory) {
        var last: Int?
        var touched: Set<Int> = []
        for run in runs where stale.isEmpty || !stale.contains(run.id) {
            if last.map({ cells[$0].key.kind != run.kind || cells[$0].key.queue != run.queue }) ?? true {
                let place = place(of: Key(queue: run.queue, kind: run.kind), in: factory)
                touched.insert(place)
                last = place
            }
            guard let last else { continue }
            cells[last].count(run, in: factory)
            if run.ending.effect != .ignored { failures.count(run.ending, of: cells[last].circuit, in: factory) }
        }
        for place in touched { cells[place].flush(in: factory) }
        failures.flush()
    }

    private mutating func place(of key: Key, in factory: any MetricsFactory) -> Int {
        if let place = places[key] { return place }
        places[key] = cells.count
        cells.append(Cell(key, circuit: circuits[key.kind] ?? key.kind, in: factory))
        return cells.count - 1
    }
}

extension HandlerRegistration {
    /// The name under which the circuit of this kind is counted: that of the shared circuit, or else the kind.
    var circuitName: String {
        if case .shared(let name) = settings.circuit.key { name } else { kind }
    }
}
