public import Breakwater
public import Metrics
import Synchronization

/// Collects the metrics of swift-metrics, and writes them in Prometheus's text format.
///
/// Bootstrap it once, before the first worker is made, and serve ``text()`` at `/metrics`:
///
/// ```swift
/// let registry = MetricsRegistry()
/// MetricsSystem.bootstrap(registry)
/// ```
///
/// Timers are histograms of seconds with fixed buckets, recorders that aggregate are histograms of sizes, and other
/// recorders are gauges. Metrics of an application's own handlers are included. Characters that Prometheus does not
/// allow in a name become `_`, counters end in `_total`, and timers end in `_seconds`. At most ``maximumSeries`` series
/// are kept for each name. Further ones are dropped and counted, so that a label with an identifier cannot exhaust
/// memory.
public final class MetricsRegistry: MetricsFactory {
    /// The upper bounds of the buckets of times, in seconds: 5 ms to 300 s.
    public static let secondsBuckets: [Double] = [
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300,
    ]
    /// The upper bounds of the buckets of sizes.
    public static let sizeBuckets: [Double] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]
    /// The most series of one name that are kept.
    public static let maximumSeries = 2000
    /// The name under which dropped series are counted.
    static let droppedName = "breakwater_metrics_dropped_series_total"

    struct Family {
        var form: Form
        var help: String
        var series: [Labels: any Series] = [:]
    }

    private struct State {
        var families: [String: Family] = [:]
        var droppedSeries: Int64 = 0
    }

    private let state = Mutex(State())
    private let help: [String: String]

    /// - Parameter catalogue: The metrics with a help text. Defaults to those of the library.
    public init(catalogue: [Metric] = Metric.all) {
        help = Dictionary(catalogue.map { ($0.name, $0.help) }) { first, _ in first }
    }

    /// All metrics in Prometheus's text format, version 0.0.4.
    public func text() -> String {
        let (families, dropped) = state.withLock { ($0.families, $0.droppedSeries) }
        var text = ""
        for (name, family) in families.sorted(by: { $0.key < $1.key }) where !family.series.isEmpty {
            family.write(name: name, to: &text)
        }
        text += "# HELP \(Self.droppedName) Series that were not kept, since their name has too many.\n"
        text += "# TYPE \(Self.droppedName) counter\n\(Self.droppedName) \(dropped)\n"
        return text
    }

    // MARK: MetricsFactory

    /// The series of these labels.
    public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        series(label, .counter, dimensions) { CounterSeries() } ?? CounterSeries()
    }

    /// The series of these labels.
    public func makeFloatingPointCounter(
        label: String,
        dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler {
        series(label, .counter, dimensions) { FloatingPointCounterSeries() } ?? FloatingPointCounterSeries()
    }

    /// The series of these labels, a gauge.
    public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        series(label, .gauge, dimensions) { GaugeSeries() } ?? GaugeSeries()
    }

    /// The series of these labels, a histogram of sizes if it aggregates and otherwise a gauge.
    public func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        guard aggregate else { return series(label, .gauge, dimensions) { GaugeSeries() } ?? GaugeSeries() }
        return series(label, .sizes, dimensions) { HistogramSeries(Self.sizeBuckets) }
            ?? HistogramSeries(Self.sizeBuckets)
    }

    /// The series of these labels, a histogram of seconds.
    public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        series(label, .seconds, dimensions) { HistogramSeries(Self.secondsBuckets) }
            ?? HistogramSeries(Self.secondsBuckets)
    }

    /// Forgets the series.
    public func destroyCounter(_ handler: any CounterHandler) { remove(handler) }
    /// Forgets the series.
    public func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) { remove(handler) }
    /// Forgets the series.
    public func destroyMeter(_ handler: any MeterHandler) { remove(handler) }
    /// Forgets the series.
    public func destroyRecorder(_ handler: any RecorderHandler) { remove(handler) }
    /// Forgets the series.
    public func destroyTimer(_ handler: any TimerHandler) { remove(handler) }

    // MARK: Series

    /// The series of these labels, which is made if it does not exist.
    ///
    /// - Returns: Nil if the series is not kept, because there are too many of that name or because the name already
    ///   has another form.
    private func series<Kept: Series>(
        _ label: String,
        _ form: Form,
        _ dimensions: [(String, String)],
        make: () -> Kept
    ) -> Kept? {
        let name = form.name(for: label)
        let labels = Labels(dimensions)
        return state.withLock { state in
            var family = state.families[name] ?? Family(form: form, help: help[name] ?? help[label] ?? label)
            if let known = family.series[labels] as? Kept, family.form == form { return known }
            guard family.form == form, family.series[labels] == nil, family.series.count < Self.maximumSeries else {
                state.droppedSeries += 1
                return nil
            }
            let made = make()
            family.series[labels] = made
            state.families[name] = family
            return made
        }
    }

    private func remove(_ handler: AnyObject) {
        state.withLock { state in
            for (name, family) in state.families {
                for (labels, series) in family.series where series === handler {
                    state.families[name]?.series[labels] = nil
                }
            }
        }
    }
}
