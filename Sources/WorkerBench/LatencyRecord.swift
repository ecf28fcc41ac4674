import Histogram
import WorkerCommand

/// Latencies, in an HDR histogram of microseconds with three significant digits.
struct LatencyRecord {
    private var histogram = Histogram<UInt32>(highestTrackableValue: 60_000_000)

    var count: Int { Int(histogram.totalCount) }

    /// Records one latency. A negative one counts as zero, one above a minute as a minute.
    mutating func record(_ latency: Duration) {
        let microseconds = max(0, latency / .microseconds(1))
        histogram.record(UInt64(min(microseconds, 60_000_000)))
    }

    /// A percentile in milliseconds.
    func percentile(_ percentile: Double) -> Double { Double(histogram.valueAtPercentile(percentile)) / 1000 }

    /// The longest latency in milliseconds.
    var maximum: Double { count == 0 ? 0 : Double(histogram.maxRecorded) / 1000 }

    /// The usual percentiles and the maximum, in milliseconds.
    var json: JSONValue {
        .object([
            "count": .integer(Int64(count)),
            "p50_ms": .number(percentile(50)),
            "p95_ms": .number(percentile(95)),
            "p99_ms": .number(percentile(99)),
            "max_ms": .number(maximum),
        ])
    }
}
