import BreakwaterEndpoints
import BreakwaterHTTP
import BreakwaterMetrics
import BreakwaterTesting
import Foundation
import Logging
import Metrics
import ServiceLifecycle
import Testing

@testable import Breakwater

@Suite("Prometheus", .enabled(if: Program.promtool.isInstalled, "\(Program.needsPrometheus)"))
struct PrometheusTests {
    private let rules = repository.appending(path: "deploy/prometheus")

    @Test("accepts the metrics' names, types and helps without complaint")
    func check() async throws {
        let registry = MetricsRegistry()
        for metric in Metric.all {
            let values = metric.labels.map { _ in "x" }
            switch metric.form {
            case .counter: metric.counter(values, in: registry).increment()
            case .gauge: metric.gauge(values, in: registry).record(1)
            case .seconds: Timer(label: metric.name, factory: registry).recordSeconds(1)
            case .sizes: Recorder(label: metric.name, factory: registry).record(1)
            }
        }
        let scrape = Scrape(registry)
        #expect(scrape.names.isSuperset(of: Metric.all.map(\.name)))
        let judged = try await Program.promtool.run(["check", "metrics"], input: scrape.text)
        #expect(judged.status == 0 && judged.output == "", "\(judged.output)")
    }

    @Test("accepts the rules, and they fire when they should")
    func alerts() async throws {
        for arguments in [
            ["check", "rules", "breakwater.rules.yml"], ["test", "rules", "breakwater.rules.test.yml"],
            ["check", "config", "prometheus.yml"],
        ] {
            let judged = try await Program.promtool.run(arguments, in: rules)
            #expect(judged.status == 0, "\(arguments.joined(separator: " ")): \(judged.output)")
        }
    }

    @Test("scrapes a running worker", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
    func scrapes() async throws {
        let registry = MetricsRegistry()
        try await withTestDatabase { database in
            let handler = ClosureHandler { _, _ in .succeeded() }
            try await database.query("insert into breakwater.job (kind) select 'k' from generate_series(1, 5)")
            let configuration = WorkerConfiguration(
                database: database.options,
                handlers: [HandlerRegistration(kind: "k", plugin: handler)]
            )
            try await withEndpoints(configuration, registry) { port in
                try await withPrometheus(scraping: port) { prometheus in
                    try await waitUntil("Prometheus knows of the jobs", deadline: .seconds(120)) {
                        try await prometheus.value("breakwater_jobs_total{outcome=\"succeeded\"}") == 5
                    }
                    #expect(try await prometheus.value("up{job=\"breakwater\"}") == 1)
                    #expect(try await prometheus.value("breakwater_slots") == 200)
                    let quantile = "histogram_quantile(0.5, sum by (le) (breakwater_job_run_seconds_bucket))"
                    #expect(try await prometheus.value(quantile) ?? -1 >= 0)
                    try await waitUntil("Prometheus knows of the fleet", deadline: .seconds(120)) {
                        try await prometheus.value("breakwater_fleet_workers{state=\"running\"}") == 1
                    }
                    // promtool checks the output of a real worker.
                    let served = try await fetch("http://127.0.0.1:\(port)/metrics").text
                    let judged = try await Program.promtool.run(["check", "metrics"], input: served)
                    #expect(judged.status == 0 && judged.output == "", "\(judged.output)")
                    // Prometheus also receives the type and the help.
                    let metadata = try await prometheus.get("/api/v1/metadata?metric=breakwater_fleet_jobs")
                    #expect(metadata.contains("aggregate with max"))
                }
            }
        }
    }

    @Test("has every metric that the Grafana dashboard and the rules use, and can parse their queries")
    func dashboard() async throws {
        let text = try String(contentsOf: repository.appending(path: "deploy/grafana/breakwater.json"), encoding: .utf8)
        let board = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        let questions = expressions(in: board).map { question in
            question.replacing("$__rate_interval", with: "5m").replacing(/\$(queue|kind)/) { _ in ".*" }
        }
        #expect(questions.count > 20)
        let alerts = try String(contentsOf: rules.appending(path: "breakwater.rules.yml"), encoding: .utf8)
            .split(separator: "\n").filter { !$0.trimmingPrefix(while: \.isWhitespace).hasPrefix("#") }
            .joined(separator: "\n")
        let known = Set(Metric.all.map(\.name) + ["breakwater_metrics_dropped_series_total"])
        for match in (questions + [alerts]).joined(separator: "\n").matches(of: /breakwater_[a-z_]+[a-z]/) {
            var name = String(match.output)
            for suffix in ["_bucket", "_sum", "_count"] where name.hasSuffix(suffix) { name.removeLast(suffix.count) }
            #expect(known.contains(name), "\(match.output) is not a metric")
        }
        // The queries are written as rules, so that promtool parses them.
        let asRules: [String: Any] = [
            "groups": [
                [
                    "name": "dashboard",
                    "rules": questions.enumerated().map { ["record": "q\($0)", "expr": $1] },
                ]
            ]
        ]
        let judged = try await withTemporaryDirectory { directory in
            let file = directory.appending(path: "rules.yml")
            // JSON is valid YAML, so promtool can read it.
            try JSONSerialization.data(withJSONObject: asRules, options: .withoutEscapingSlashes).write(to: file)
            return try await Program.promtool.run(["check", "rules", file.path()])
        }
        #expect(judged.status == 0, "\(judged.output)")
    }

    private func expressions(in value: Any) -> [String] {
        switch value {
        case let map as [String: Any]:
            map.flatMap { $0.key == "expr" ? [$0.value as? String ?? ""] : expressions(in: $0.value) }
        case let list as [Any]: list.flatMap { expressions(in: $0) }
        default: []
        }
    }
}
