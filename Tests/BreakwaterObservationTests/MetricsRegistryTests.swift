import BreakwaterMetrics
import Metrics
import Testing

@Suite("The metrics registry")
struct MetricsRegistryTests {
    private let registry = MetricsRegistry(catalogue: [])

    @Test("prints counters, gauges and histograms in Prometheus' text form")
    func text() {
        Counter(label: "runs_total", dimensions: [("kind", "b"), ("a", "1")], factory: registry).increment(by: 3)
        Gauge(label: "slots", dimensions: [], factory: registry).record(2.5)
        let timer = Timer(label: "run_seconds", dimensions: [], factory: registry)
        for milliseconds in [4, 5, 6, 400_000] { timer.recordMilliseconds(milliseconds) }
        let scrape = Scrape(registry)
        #expect(scrape["runs_total{a=\"1\",kind=\"b\"}"] == 3)
        #expect(scrape["slots"] == 2.5)
        #expect(scrape["run_seconds_bucket{le=\"0.005\"}"] == 2)
        #expect(scrape["run_seconds_bucket{le=\"0.01\"}"] == 3)
        #expect(scrape["run_seconds_bucket{le=\"300\"}"] == 3)
        #expect(scrape["run_seconds_bucket{le=\"+Inf\"}"] == 4)
        #expect(scrape["run_seconds_count"] == 4)
        #expect(scrape["run_seconds_sum"] == 400.015)
        #expect(scrape.text.contains("# TYPE run_seconds histogram\n"))
        #expect(scrape.text.contains("# TYPE runs_total counter\n"))
        #expect(scrape.text.contains("# TYPE slots gauge\n"))
    }

    @Test("gives the metrics of other libraries names and labels that Prometheus accepts")
    func names() {
        Counter(label: "http.client-requests", dimensions: [("to.host", "a\"b\\c\nd")], factory: registry).increment()
        Timer(label: "9lives", factory: registry).recordSeconds(1)
        let text = registry.text()
        #expect(text.contains("http_client_requests_total{to_host=\"a\\\"b\\\\c\\nd\"} 1\n"))
        #expect(text.contains("_9lives_seconds_count 1\n"))
    }

    @Test("adds up the handles with the same labels, and forgets destroyed ones")
    func handles() {
        let first = Counter(label: "n_total", dimensions: [("x", "1")], factory: registry)
        let second = Counter(label: "n_total", dimensions: [("x", "1")], factory: registry)
        first.increment()
        second.increment()
        #expect(Scrape(registry)["n_total{x=\"1\"}"] == 2)
        first.destroy()
        #expect(Scrape(registry)["n_total{x=\"1\"}"] == nil)
    }

    @Test("keeps a bounded number of series of one name, and counts the others")
    func bounded() {
        for id in 0..<(MetricsRegistry.maximumSeries + 7) {
            Counter(label: "n_total", dimensions: [("job", "\(id)")], factory: registry).increment()
        }
        // This metric has the same name, but another type.
        Gauge(label: "n_total", factory: registry).record(1)
        let scrape = Scrape(registry)
        #expect(scrape.text.split(separator: "\n").count { $0.hasPrefix("n_total{") } == MetricsRegistry.maximumSeries)
        #expect(scrape["breakwater_metrics_dropped_series_total"] == 8)
        #expect(scrape["n_total"] == nil)
    }

    @Test("loses no count of many threads")
    func concurrent() async {
        let registry = registry
        await withTaskGroup { group in
            for _ in 0..<8 {
                group.addTask {
                    let counter = Counter(label: "n_total", factory: registry)
                    let timer = Timer(label: "t_seconds", factory: registry)
                    for _ in 0..<1000 {
                        counter.increment()
                        timer.recordMilliseconds(1)
                    }
                }
            }
        }
        #expect(Scrape(registry)["n_total"] == 8000)
        #expect(Scrape(registry)["t_seconds_count"] == 8000)
    }
}
