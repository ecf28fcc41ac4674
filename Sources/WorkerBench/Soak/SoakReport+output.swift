import WorkerCommand

extension SoakBenchmark.Report {
    var json: JSONValue {
        .object([
            "added": .integer(Int64(added)),
            "settled": .integer(Int64(settled)),
            "failed_runs": .integer(Int64(failedRuns)),
            "dead_letters": .integer(Int64(deadLetters)),
            "lost": .integer(Int64(lost)),
            "samples": .array(samples.map(\.json)),
        ])
    }

    /// The samples over time.
    func chart(title: String) -> LineChart {
        func values(_ value: (SoakSample) -> Double) -> [Double] { samples.map(value) }
        return LineChart(
            title: title,
            x: values(\.seconds),
            xUnit: "seconds",
            panels: [
                .init(
                    title: "Throughput",
                    unit: "jobs/s",
                    lines: [
                        .init(name: "enqueued", values: values(\.addedPerSecond)),
                        .init(name: "settled", values: values(\.settledPerSecond)),
                    ]
                ),
                .init(
                    title: "From commit to handler start",
                    unit: "ms",
                    lines: [
                        .init(name: "p50", values: values(\.p50)), .init(name: "p99", values: values(\.p99)),
                    ]
                ),
                .init(
                    title: "On disk, and the worker in memory",
                    unit: "MB",
                    lines: [
                        .init(name: "job table", values: values { Double($0.storage.table) / 1_048_576 }),
                        .init(name: "lane index", values: values { Double($0.storage.laneIndex) / 1_048_576 }),
                        .init(name: "other indexes", values: values { Double($0.storage.otherIndexes) / 1_048_576 }),
                        .init(name: "worker", values: values { Double($0.memory) / 1_048_576 }),
                    ]
                ),
                .init(
                    title: "Jobs",
                    unit: "rows",
                    lines: [
                        .init(name: "ready", values: values { Double($0.storage.ready) }),
                        .init(name: "for later", values: values { Double($0.storage.waiting) }),
                    ]
                ),
                .init(
                    title: "Dead tuples of the job table",
                    unit: "rows",
                    lines: [.init(name: "dead tuples", values: values { Double($0.storage.deadTuples) })]
                ),
            ]
        )
    }
}
