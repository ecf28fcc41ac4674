import Foundation
import Testing

@testable import WorkerBench
@testable import WorkerCommand

@Suite("The output of a soak")
struct SoakOutputTests {
    private func sample(_ seconds: Double) -> SoakSample {
        SoakSample(
            seconds: seconds,
            addedPerSecond: 1000.4,
            settledPerSecond: 999.6,
            p50: 1.256,
            p99: 12,
            max: 20.5,
            failedRuns: 3,
            storage: SoakStorage(
                ready: 4,
                waiting: 5,
                table: 8192,
                laneIndex: 16384,
                otherIndexes: 32768,
                deadTuples: 6
            ),
            memory: 1_048_576
        )
    }

    @Test("is CSV with a name for every value")
    func csv() {
        #expect(
            SoakSample.csvHeader == """
                seconds,enqueued_per_second,settled_per_second,latency_p50_ms,latency_p99_ms,latency_max_ms,\
                ready_jobs,waiting_jobs,failed_runs,job_bytes,lane_index_bytes,other_index_bytes,dead_tuples,worker_bytes
                """
        )
        #expect(sample(10).csv == "10.0,1000,1000,1.26,12.00,20.50,4,5,3,8192,16384,32768,6,1048576")
    }

    @Test("is JSON with the same names and values")
    func json() throws {
        let report = SoakBenchmark.Report(
            samples: [sample(1), sample(2)],
            added: 10,
            settled: 9,
            failedRuns: 3,
            deadLetters: 0
        )
        let object = try JSONSerialization.jsonObject(with: Data(report.json.text.utf8)) as? [String: Any]
        #expect(object?["lost"] as? Int == 1)
        let samples = try #require(object?["samples"] as? [[String: Any]])
        #expect(samples.count == 2)
        #expect(Set(samples[0].keys) == Set(SoakSample.csvHeader.split(separator: ",").map(String.init)))
        #expect(samples[0]["latency_p50_ms"] as? Double == 1.26)
    }

    @Test("is a well-formed drawing, with a panel for each topic and a legend for each line")
    func drawing() throws {
        let report = SoakBenchmark.Report(
            samples: [sample(1), sample(2)],
            added: 1,
            settled: 1,
            failedRuns: 0,
            deadLetters: 0
        )
        let svg = report.chart(title: "a < b & c").svg
        let reader = XMLReader(svg)
        #expect(reader.isWellFormed, "\(svg)")
        #expect(reader.count["svg"] == 1)
        for text in [
            "a < b & c", "Throughput, jobs/s", "On disk, and the worker in memory, MB", "p99", "lane index",
            "dead tuples", "seconds",
        ] {
            #expect(reader.texts.contains(text), "\(text) is missing in \(reader.texts)")
        }
    }
}

@Suite("A line chart")
struct LineChartTests {
    private func chart(_ values: [Double], x: [Double]? = nil) -> String {
        LineChart(
            title: "t",
            x: x ?? values.indices.map(Double.init),
            xUnit: "s",
            panels: [.init(title: "p", unit: "u", lines: [.init(name: "n", values: values)])]
        ).svg
    }

    @Test("is drawn through every point, from the bottom at zero to the top")
    func points() throws {
        let svg = chart([0, 50, 100])
        let line = try #require(svg.firstMatch(of: /stroke="#3b82c4" d="(M[^"]*L[^"]*)"/)?.1)
        let points = line.split { $0 == "M" || $0 == "L" }.map { $0.split(separator: ",").compactMap { Double($0) } }
        #expect(points.map { $0[0] } == [78, 404, 730])
        #expect(points.map { $0[1] } == [208, 133, 58])
    }

    @Test("is interrupted at a gap")
    func gap() throws {
        let svg = chart([1, 2, .nan, 3, 4])
        let line = try #require(svg.firstMatch(of: /stroke="#3b82c4" d="(M[^"]*L[^"]*)"/)?.1)
        #expect(line.count { $0 == "M" } == 2)
        #expect(line.count { $0 == "L" } == 2)
        #expect(!svg.lowercased().contains("nan"))
    }

    @Test("holds with nothing to draw", arguments: [[], [0], [.infinity]] as [[Double]])
    func nothing(values: [Double]) {
        let svg = chart(values)
        #expect(XMLReader(svg).isWellFormed, "\(svg)")
        #expect(!svg.lowercased().contains("nan") && !svg.contains("inf"))
    }

    @Test(
        "has round numbers at its axes",
        arguments: [
            (100, ["0", "25", "50", "75", "100"]), (0.07, ["0", "0.02", "0.04", "0.06", "0.08"]),
            (0, ["0", "0.25", "0.50", "0.75", "1.00"]), (37, ["0", "10", "20", "30", "40"]),
            (9.3, ["0", "2.5", "5.0", "7.5", "10.0"]),
            (52_000, ["0", "20k", "40k", "60k"]), (31_000_000, ["0", "10M", "20M", "30M", "40M"]),
        ] as [(Double, [String])]
    )
    func ticks(maximum: Double, texts: [String]) {
        let ticks = AxisTicks(to: maximum)
        #expect(ticks.limit >= maximum)
        #expect(ticks.values.map(ticks.text) == texts)
    }
}

/// The elements and texts of an XML document.
private struct XMLReader {
    var isWellFormed: Bool
    var count: [String: Int] = [:]
    var texts: [String] = []

    init(_ text: String) {
        // There is no XML parser at hand. This checks that every element is closed, and that no forbidden character
        // stands.
        var open: [Substring] = []
        var rest = text[...]
        isWellFormed = true
        while let start = rest.firstIndex(of: "<") {
            let content = rest[..<start]
            if content.contains(">") || content.contains(/&(?!amp;|lt;|gt;)/) { isWellFormed = false }
            let plain = content.replacing("&lt;", with: "<").replacing("&gt;", with: ">").replacing("&amp;", with: "&")
            if !plain.allSatisfy(\.isWhitespace) { texts.append(String(plain)) }
            guard let end = rest[start...].firstIndex(of: ">") else { break }
            let tag = rest[rest.index(after: start)..<end]
            rest = rest[rest.index(after: end)...]
            let name = tag.drop { $0 == "/" }.prefix { $0 != " " && $0 != "/" && $0 != "\n" }
            if tag.hasPrefix("/") {
                if open.popLast() != name { isWellFormed = false }
            } else {
                count[String(name), default: 0] += 1
                if !tag.hasSuffix("/") { open.append(name) }
            }
        }
        if !open.isEmpty || !rest.allSatisfy(\.isWhitespace) { isWellFormed = false }
    }
}
