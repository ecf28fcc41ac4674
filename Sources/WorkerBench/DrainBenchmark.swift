import BreakwaterAdmin
import Breakwater
import Foundation
import Libpq
import Synchronization
import WorkerCommand

/// Measures how fast workers settle jobs.
///
/// The database counts the jobs: a tally includes a job once its success is committed. The tallies are read fifty times
/// a second. The clock starts at the first reading that is above zero, so the time to connect is not measured. It stops
/// when all jobs are settled.
struct DrainBenchmark {
    var load: BenchLoad
    var jobs: Int
    /// The number of worker processes. With 1, this process is the worker.
    var processes = 1
    /// Whether the database already has the jobs.
    var isFilled = false
    /// The size of the backlog that is maintained by adding jobs during the run. With 0, all jobs are added beforehand.
    var feed = 0
    /// The run ends after this long. With a feed, the jobs added until then are still drained, but no longer measured.
    var limit = Duration.seconds(600)

    /// One reading of the count.
    struct Sample: Equatable {
        var time: Duration
        var settled: Int
    }

    struct Report {
        var samples: [Sample]
        /// The number of jobs to run, and the number of handler runs.
        var added: Int
        var runs: Int
        /// Jobs whose success was committed by the time the workers had ended.
        var settled: Int
        /// Jobs that were still ready by then.
        var left: Int
        var deadLetters: Int
        var startToFirstRun: Duration?
        var processorTime: Duration?
        var peakMemory: Int64?

        /// Jobs that vanished without an outcome, and runs without an outcome of their own, as when a job ran twice.
        var lost: Int { added - settled - left - deadLetters }
        var repeated: Int { runs - settled - deadLetters }

        /// Settled jobs a second between the first and the last sample.
        var rate: Double { Self.rate(samples[...]) }

        /// The rate of each tenth of the jobs.
        var tenths: [Double] {
            guard let first = samples.first, let last = samples.last, samples.count > 10 else { return [] }
            let jobs = last.settled - first.settled
            let edges = (0...10).map { tenth in
                samples.firstIndex { $0.settled >= first.settled + jobs * tenth / 10 } ?? samples.endIndex - 1
            }
            return zip(edges, edges.dropFirst()).map { $0 < $1 ? Self.rate(samples[$0...$1]) : 0 }
        }

        /// The rate of the last tenth divided by that of the first: whether the speed was sustained.
        var lastTenthToFirst: Double? {
            guard let first = tenths.first, let last = tenths.last, first > 0 else { return nil }
            return last / first
        }

        private static func rate(_ samples: ArraySlice<Sample>) -> Double {
            guard let first = samples.first, let last = samples.last, last.time > first.time else { return 0 }
            return Double(last.settled - first.settled) / ((last.time - first.time) / .seconds(1))
        }
    }

    private static let sampleInterval = Duration.milliseconds(20)

    func run(in database: BenchDatabase) async throws -> Report {
        if !isFilled, feed == 0 {
            Terminal.complain("adding \(jobs) jobs")
            try await database.fill(load, jobs: jobs)
        }
        Terminal.complain("draining \(jobs) jobs")
        return processes == 1 ? try await runHere(in: database) : try await runElsewhere(in: database)
    }

    // MARK: One process

    private func runHere(in database: BenchDatabase) async throws -> Report {
        let runs = RunCount()
        let configuration = try load.configuration(database.options, counting: runs)
        let already = try await database.settled(load)
        let added = Tally()
        let (before, start) = (ProcessFigures.processorTime, ContinuousClock.now)
        let samples = try await BenchWorker.with(configuration) { [self] in
            try await watch(database, from: already, added: added)
        }
        return try await report(
            samples,
            added: added.total,
            runs: runs.total,
            in: database,
            from: already,
            startToFirstRun: runs.first.map { $0 - start },
            processorTime: ProcessFigures.processorTime - before,
            peakMemory: ProcessFigures.peakMemory
        )
    }

    // MARK: Several processes

    private func runElsewhere(in database: BenchDatabase) async throws -> Report {
        let already = try await database.settled(load)
        let added = Tally()
        let children = try (0..<processes).map { _ in try BenchProcess(load, database.options) }
        defer { for child in children { child.end() } }
        let samples = try await watch(database, from: already, added: added)
        for child in children { child.end() }
        let reports = try children.map { try $0.report() }
        return try await report(
            samples,
            added: added.total,
            runs: reports.reduce(0) { $0 + $1.runs },
            in: database,
            from: already,
            peakMemory: reports.compactMap(\.peakMemoryBytes).max()
        )
    }

    // MARK: Counting

    private func watch(_ database: BenchDatabase, from already: Int, added: Tally) async throws -> [Sample] {
        let settled = Tally()
        guard feed > 0 else {
            added.set(jobs)
            return try await sample(at: database, from: already, settled: settled)
        }
        return try await withThrowingTaskGroup(of: [Sample]?.self) { tasks in
            tasks.addTask {
                try await BenchDatabase.with(database.options.conninfo, isForced: true, leavesTraces: true) {
                    try await addJobs(to: $0, settled: settled, added: added)
                }
                return nil
            }
            tasks.addTask { try await sample(at: database, from: already, settled: settled) }
            var samples: [Sample] = []
            while let ended = try await tasks.next() {
                guard let ended else { continue }
                samples = ended
                // A portion that is being added now is counted once its insert has committed.
                added.stop()
            }
            let end = ContinuousClock.now + limit
            while try await database.settled(load) - already < added.total, .now < end {
                try await Task.sleep(for: Self.sampleInterval)
            }
            return samples
        }
    }

    /// Keeps a backlog of one to two portions.
    private func addJobs(to database: BenchDatabase, settled: Tally, added: Tally) async throws {
        while added.total < jobs, !added.isStopped, !Task.isCancelled {
            if added.total - settled.total < feed {
                let portion = min(jobs - added.total, feed)
                try await database.fill(load, jobs: portion)
                added.set(added.total + portion)
            } else {
                try await Task.sleep(for: .milliseconds(5))
            }
        }
    }

    private func sample(at database: BenchDatabase, from already: Int, settled: Tally) async throws -> [Sample] {
        var samples: [Sample] = []
        var count = SettledCount(load)
        let start = ContinuousClock.now
        while true {
            settled.set(try await count.total(in: database) - already)
            let now = ContinuousClock.now - start
            if settled.total > 0 { samples.append(Sample(time: now, settled: settled.total)) }
            if settled.total >= jobs || now > limit { return samples }
            try await Task.sleep(for: Self.sampleInterval)
        }
    }

    private func report(
        _ samples: [Sample],
        added: Int,
        runs: Int,
        in database: BenchDatabase,
        from already: Int,
        startToFirstRun: Duration? = nil,
        processorTime: Duration? = nil,
        peakMemory: Int64?
    ) async throws -> Report {
        let row = try await database.admin.one(
            """
            select (select count(*) from breakwater.job where kind = any ($1) and run_at is null),
                   (select count(*) from breakwater.dead_letter where kind = any ($1))
            """,
            [.textArray(load.kindNames)]
        )
        return Report(
            samples: samples,
            added: added,
            runs: runs,
            settled: try await database.settled(load) - already,
            left: try row[0].int(),
            deadLetters: try row[1].int(),
            startToFirstRun: startToFirstRun,
            processorTime: processorTime,
            peakMemory: peakMemory
        )
    }
}

extension DrainBenchmark.Report {
    var json: JSONValue {
        .object([
            "added": .integer(Int64(added)),
            "settled": .integer(Int64(settled)),
            "jobs_per_second": .number(rate),
            "runs": .integer(Int64(runs)),
            "left": .integer(Int64(left)),
            "dead_letters": .integer(Int64(deadLetters)),
            "lost": .integer(Int64(lost)),
            "repeated": .integer(Int64(repeated)),
            "last_tenth_to_first": lastTenthToFirst.map { .number($0) } ?? .null,
            "tenths_jobs_per_second": .array(tenths.map { .number($0) }),
            "start_to_first_run_seconds": .seconds(startToFirstRun),
            "processor_seconds": .seconds(processorTime),
            "peak_memory_bytes": peakMemory.map { .integer($0) } ?? .null,
        ])
    }

    var table: Table {
        var table = Table(columns: [.text("FIGURE"), .number("VALUE")])
        table.rows = [
            ["jobs settled", "\(settled)"],
            ["jobs a second", "\(Int(rate))"],
            ["handler runs", "\(runs)"],
            ["jobs left", "\(left)"],
            ["dead letters", "\(deadLetters)"],
            ["jobs lost", "\(lost)"],
            ["jobs run again", "\(repeated)"],
        ]
        if let lastTenthToFirst {
            table.rows.append(["last tenth to first", String(format: "%.2f", lastTenthToFirst)])
        }
        if let startToFirstRun { table.rows.append(["start to first run", startToFirstRun.shortText]) }
        if let processorTime { table.rows.append(["processor time", processorTime.shortText]) }
        if let peakMemory { table.rows.append(["peak memory", "\(peakMemory / 1_048_576) MB"]) }
        return table
    }
}
