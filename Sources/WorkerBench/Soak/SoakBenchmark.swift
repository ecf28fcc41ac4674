import Breakwater
import BreakwaterAdmin
import Foundation
import Libpq

/// A long steady load, such as that of an application. Jobs are added at a constant rate, some fail at first and are
/// retried, and some are scheduled for later. Samples are taken at an interval.
struct SoakBenchmark {
    var load: BenchLoad
    /// The number of jobs added a second.
    var rate: Double
    /// The time during which jobs are added.
    var duration: Duration
    /// The time from one sample to the next.
    var interval: Duration
    /// The share of the jobs whose first run fails.
    var failing = 0.05
    /// The share of the jobs that are scheduled for one to ten seconds later.
    var scheduled = 0.1
    /// How long the last jobs may take to end once no more are added.
    var drainTimeout = Duration.seconds(120)

    struct Report {
        var samples: [SoakSample]
        var added: Int
        var settled: Int
        var failedRuns: Int
        var deadLetters: Int

        var lost: Int { added - settled - deadLetters }
    }

    /// The time from one statement that adds jobs to the next.
    private static let portionInterval = Duration.milliseconds(20)
    /// The most jobs that one statement adds, so that a server that has fallen behind can catch up.
    private static let largestPortion = 10_000

    /// - Parameters:
    ///   - database: The database to run in.
    ///   - onSample: Receives each sample as soon as it is taken.
    func run(
        in database: BenchDatabase,
        onSample: @escaping @Sendable (SoakSample) -> Void = { _ in }
    ) async throws -> Report {
        let log = SoakLog()
        var configuration = load.configuration(database.options) { _ in SoakHandler(log: log, time: load.handlerTime) }
        for index in configuration.handlers.indices {
            // Every failed job must be retried before the benchmark ends, so delays are short and the retry budget is
            // off.
            configuration.handlers[index].settings.retry.cap = .seconds(10)
            configuration.handlers[index].settings.retry.budget = nil
        }
        return try await BenchWorker.with(configuration) { [self] in
            try await withThrowingTaskGroup(of: [SoakSample]?.self) { tasks in
                tasks.addTask {
                    try await BenchDatabase.with(database.options.conninfo, isForced: true, leavesTraces: true) {
                        try await addJobs(to: $0, log)
                    }
                    return nil
                }
                tasks.addTask {
                    try await BenchDatabase.with(database.options.conninfo, isForced: true, leavesTraces: true) {
                        try await observe($0, log, onSample)
                    }
                }
                var samples: [SoakSample] = []
                while let ended = try await tasks.next() { samples = ended ?? samples }
                return try await report(samples, log, in: database)
            }
        }
    }

    // MARK: The load

    private func addJobs(to database: BenchDatabase, _ log: SoakLog) async throws {
        let clock = ContinuousClock()
        let start = clock.now
        var next = start
        var added = 0
        while clock.now < start + duration {
            next = max(next + Self.portionInterval, clock.now)
            try await clock.sleep(until: next, tolerance: .zero)
            let due = Int((min(clock.now - start, duration) / .seconds(1)) * rate)
            guard due > added else { continue }
            let portion = added..<min(due, added + Self.largestPortion)
            try await add(portion, to: database, log)
            added = portion.upperBound
        }
    }

    private func add(_ numbers: Range<Int>, to database: BenchDatabase, _ log: SoakLog) async throws {
        // 7 and 100 are coprime, so the failing jobs are spread evenly over the scheduled and the ready ones.
        let rows = try await database.admin.connection.query(
            """
            insert into breakwater.job (queue, kind, priority, payload, run_at)
            select ($2::text[])[1 + i / cardinality($3) % cardinality($2)], ($3::text[])[1 + i % cardinality($3)], 5,
                   jsonb_build_object('number', i, 'text', repeat('x', 72), 'fails', i * 7 % 100 < $4,
                                      'later', i % 100 < $5),
                   case when i % 100 < $5 then now() + (1 + i % 10) * interval '1 second' end
              from generate_series($1::int8, $6::int8 - 1) i
            returning id, run_at is null
            """,
            [
                .int8(Int64(numbers.lowerBound)), .textArray(load.queueNames), .textArray(load.kindNames),
                .int8(Int64((failing * 100).rounded())), .int8(Int64((scheduled * 100).rounded())),
                .int8(Int64(numbers.upperBound)),
            ],
            timeout: .seconds(60)
        )
        let committed = ContinuousClock.now
        log.add(
            rows.count,
            ready: try rows.compactMap { try $0[1].bool() ? try $0[0].int64() : nil },
            committed: committed
        )
    }

    // MARK: The samples

    private func observe(
        _ database: BenchDatabase,
        _ log: SoakLog,
        _ onSample: @Sendable (SoakSample) -> Void
    ) async throws -> [SoakSample] {
        let clock = ContinuousClock()
        let start = clock.now
        let already = try await database.settled(load)
        var samples: [SoakSample] = []
        var settled = SettledCount(load)
        var last = (time: Duration.zero, added: 0, settled: 0)
        var next = start
        while next < start + duration {
            next = min(next + interval, start + duration)
            try await clock.sleep(until: next, tolerance: .zero)
            let latency = log.drainLatency()
            let now = (
                time: clock.now - start, added: log.added, settled: try await settled.total(in: database) - already
            )
            let seconds = max((now.time - last.time) / .seconds(1), 0.001)
            let sample = SoakSample(
                seconds: now.time / .seconds(1),
                addedPerSecond: Double(now.added - last.added) / seconds,
                settledPerSecond: Double(now.settled - last.settled) / seconds,
                p50: latency.percentile(50),
                p99: latency.percentile(99),
                max: latency.maximum,
                failedRuns: log.failed,
                storage: try await SoakStorage(of: load, in: database),
                memory: ProcessFigures.memory ?? 0
            )
            samples.append(sample)
            onSample(sample)
            last = now
        }
        return samples
    }

    /// Waits for the retries and the scheduled jobs, then counts.
    private func report(_ samples: [SoakSample], _ log: SoakLog, in database: BenchDatabase) async throws -> Report {
        let end = ContinuousClock.now + drainTimeout
        func open() async throws -> Int {
            try await database.admin.one(
                "select count(*) from breakwater.job where kind = any ($1)",
                [.textArray(load.kindNames)]
            )[0].int()
        }
        while try await open() > 0, .now < end { try await Task.sleep(for: .milliseconds(100)) }
        let buried = try await database.admin.one(
            "select count(*) from breakwater.dead_letter where kind = any ($1)",
            [.textArray(load.kindNames)]
        )
        return Report(
            samples: samples,
            added: log.added,
            settled: log.succeeded,
            failedRuns: log.failed,
            deadLetters: try buried[0].int()
        )
    }
}
