import Testing

@testable import WorkerBench
@testable import WorkerCommand

@Suite("Figures of bench")
struct BenchFigureTests {
    private func report(_ samples: [(Int, Int)], added: Int = 0, runs: Int = 0, settled: Int = 0, left: Int = 0)
        -> DrainBenchmark.Report
    {
        DrainBenchmark.Report(
            samples: samples.map { DrainBenchmark.Sample(time: .milliseconds($0.0), settled: $0.1) },
            added: added,
            runs: runs,
            settled: settled,
            left: left,
            deadLetters: 0
        )
    }

    @Test("take the speed between the first sample that found a finished job and the last sample")
    func rate() {
        #expect(report([(100, 50), (200, 150), (600, 450)]).rate == 800)
        #expect(report([]).rate == 0)
        #expect(report([(100, 50)]).rate == 0)
    }

    @Test("compare the last tenth of the jobs with the first")
    func tenths() throws {
        // There are 100 jobs between two samples. Samples are 10 ms apart until half of the jobs are done, then 20 ms.
        let samples = (0...20).map { ($0 <= 10 ? $0 * 10 : 100 + ($0 - 10) * 20, $0 * 100) }
        let drained = report(samples)
        #expect(drained.tenths.count == 10)
        #expect(abs(try #require(drained.lastTenthToFirst) - 0.5) < 0.001)
        #expect(report(Array(samples.prefix(10))).lastTenthToFirst == nil)
    }

    @Test("tell lost jobs from those that are left, and from those that ran again")
    func lost() {
        let fine = report([], added: 100, runs: 90, settled: 90, left: 10)
        #expect(fine.lost == 0)
        #expect(fine.repeated == 0)
        #expect(report([], added: 100, runs: 90, settled: 90, left: 9).lost == 1)
        #expect(report([], added: 100, runs: 101, settled: 100).repeated == 1)
    }

    @Test("of latency are percentiles to three digits, within bounds")
    func latency() {
        var record = LatencyRecord()
        #expect(record.maximum == 0)
        for milliseconds in 1...1000 { record.record(.milliseconds(milliseconds)) }
        #expect(record.count == 1000)
        #expect(abs(record.percentile(50) - 500) <= 1)
        #expect(abs(record.percentile(99) - 990) <= 1)
        #expect(abs(record.maximum - 1000) <= 1)
        record.record(.seconds(-1))
        record.record(.seconds(3600))
        #expect(abs(record.maximum - 60_000) <= 60)
    }

    @Test("are printed as JSON that programs can read")
    func json() {
        let members = report([(0, 1), (10, 2)], added: 2, runs: 2, settled: 2).json.members.map(\.key)
        #expect(
            members == [
                "added", "settled", "jobs_per_second", "runs", "left", "dead_letters", "lost", "repeated",
                "last_tenth_to_first", "tenths_jobs_per_second", "start_to_first_run_seconds", "processor_seconds",
                "peak_memory_bytes",
            ]
        )
        #expect(LatencyRecord().json.members.map(\.key) == ["count", "p50_ms", "p95_ms", "p99_ms", "max_ms"])
    }
}
