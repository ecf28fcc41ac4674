import Metrics
import Synchronization

/// One series: the values of one name with certain labels.
protocol Series: AnyObject, Sendable {
    /// Appends the series' lines.
    func write(name: String, labels: Labels, to text: inout String)
}

/// A counter of integers.
final class CounterSeries: CounterHandler, Series {
    private let value = Atomic<Int64>(0)

    func increment(by amount: Int64) { value.add(amount, ordering: .relaxed) }

    func reset() { value.store(0, ordering: .relaxed) }

    func write(name: String, labels: Labels, to text: inout String) {
        text += "\(name)\(labels.text()) \(value.load(ordering: .relaxed))\n"
    }
}

/// A counter of floating-point numbers.
final class FloatingPointCounterSeries: FloatingPointCounterHandler, Series {
    private let value = Mutex(0.0)

    func increment(by amount: Double) { value.withLock { $0 += amount } }

    func reset() { value.withLock { $0 = 0 } }

    func write(name: String, labels: Labels, to text: inout String) {
        text += "\(name)\(labels.text()) \(value.withLock(\.self).sample)\n"
    }
}

/// A current value.
final class GaugeSeries: RecorderHandler, MeterHandler, Series {
    private let value = Mutex(0.0)

    func record(_ value: Int64) { set(Double(value)) }
    func record(_ value: Double) { set(value) }
    func set(_ value: Int64) { set(Double(value)) }
    func set(_ value: Double) { self.value.withLock { $0 = value } }
    func increment(by amount: Double) { value.withLock { $0 += amount } }
    func decrement(by amount: Double) { value.withLock { $0 -= amount } }

    func write(name: String, labels: Labels, to text: inout String) {
        text += "\(name)\(labels.text()) \(value.withLock(\.self).sample)\n"
    }
}

/// A histogram with a count for each bucket.
final class HistogramSeries: RecorderHandler, TimerHandler, Series {
    private struct Counts {
        /// The count of each bucket. There is one more than there are bounds, for values above all of them.
        var buckets: [UInt64]
        var sum = 0.0
    }

    private let bounds: [Double]
    private let counts: Mutex<Counts>

    /// - Parameter bounds: The buckets' upper bounds in ascending order.
    init(_ bounds: [Double]) {
        self.bounds = bounds
        counts = Mutex(Counts(buckets: Array(repeating: 0, count: bounds.count + 1)))
    }

    func record(_ value: Int64) { record(Double(value)) }

    func record(_ value: Double) {
        guard value.isFinite else { return }
        let bucket = bounds.firstIndex { value <= $0 } ?? bounds.count
        counts.withLock { counts in
            counts.buckets[bucket] += 1
            counts.sum += value
        }
    }

    /// Records a time. A negative one, which clock differences can cause, counts as zero.
    func recordNanoseconds(_ duration: Int64) { record(Double(max(0, duration)) / 1e9) }

    func write(name: String, labels: Labels, to text: inout String) {
        let (buckets, sum) = counts.withLock { ($0.buckets, $0.sum) }
        var total: UInt64 = 0
        for (bound, count) in zip(bounds, buckets) {
            total += count
            text += "\(name)_bucket\(labels.text(adding: ("le", bound.sample))) \(total)\n"
        }
        total += buckets[bounds.count]
        text += "\(name)_bucket\(labels.text(adding: ("le", "+Inf"))) \(total)\n"
        text += "\(name)_sum\(labels.text()) \(sum.sample)\n"
        text += "\(name)_count\(labels.text()) \(total)\n"
    }
}
