import BreakwaterAdmin
import Breakwater
import Foundation
import Libpq
import Synchronization
import WorkerCommand

/// Measures how long a job waits for an idle worker. Jobs are inserted one at a time. The wait lasts from the end of
/// the INSERT, which commits, to the start of the handler. Both times are read from the clock of this process.
struct LatencyBenchmark {
    var load: BenchLoad
    var jobs: Int
    /// The time from one job to the next.
    var interval = Duration.milliseconds(20)
    /// The time from the worker's start to the first job. By then the worker has found its lanes empty and is idle.
    var warmUp = Duration.seconds(1)

    struct Report {
        /// The time from the commit. It is zero for a handler that started before this process received the commit's
        /// answer.
        var sinceCommit: LatencyRecord
        /// The time from sending the INSERT.
        var sinceInsert: LatencyRecord
        /// Jobs whose handler had not started ten seconds after the last INSERT.
        var lost: Int
    }

    private struct Times {
        var sent: [Int64: ContinuousClock.Instant] = [:]
        var committed: [Int64: ContinuousClock.Instant] = [:]
        var started: [Int64: ContinuousClock.Instant] = [:]
    }

    private final class Log: Sendable {
        let times = Mutex(Times())
    }

    /// Records when each job starts.
    private struct Stopwatch: HandlerPlugin {
        var log: Log

        func run(_ job: Job, context: JobContext) async throws -> JobOutcome {
            let now = ContinuousClock.now
            log.times.withLock { $0.started[job.id] = now }
            return .succeeded()
        }
    }

    func run(in database: BenchDatabase) async throws -> Report {
        Terminal.complain("adding \(jobs) jobs, one each \(interval.text)")
        let log = Log()
        let configuration = load.configuration(database.options) { _ in Stopwatch(log: log) }
        return try await BenchWorker.with(configuration) { [self] in
            try await Task.sleep(for: warmUp)
            try await insertJobs(database, log)
            return await report(log)
        }
    }

    private func insertJobs(_ database: BenchDatabase, _ log: Log) async throws {
        let clock = ContinuousClock()
        var next = clock.now
        for _ in 0..<jobs {
            next += interval
            try await clock.sleep(until: next, tolerance: .zero)
            let sent = clock.now
            let row = try await database.admin.one(
                "insert into breakwater.job (queue, kind, payload) values ($1, $2, '{}') returning id",
                [.text(load.queueNames[0]), .text(load.kindNames[0])]
            )
            let committed = clock.now
            let id = try row[0].int64()
            log.times.withLock { times in
                times.sent[id] = sent
                times.committed[id] = committed
            }
        }
    }

    private func report(_ log: Log) async -> Report {
        let end = ContinuousClock.now + .seconds(10)
        // The worker may have had other jobs to run first.
        while log.times.withLock({ times in times.committed.keys.contains { times.started[$0] == nil } }), .now < end {
            try? await Task.sleep(for: .milliseconds(20))
        }
        let times = log.times.withLock(\.self)
        var report = Report(sinceCommit: LatencyRecord(), sinceInsert: LatencyRecord(), lost: 0)
        for (id, committed) in times.committed {
            guard let started = times.started[id], let sent = times.sent[id] else {
                report.lost += 1
                continue
            }
            report.sinceCommit.record(started - committed)
            report.sinceInsert.record(started - sent)
        }
        return report
    }
}

extension LatencyBenchmark.Report {
    var json: JSONValue {
        .object([
            "since_commit": sinceCommit.json,
            "since_insert": sinceInsert.json,
            "lost": .integer(Int64(lost)),
        ])
    }

    var table: Table {
        var table = Table(
            columns: [
                .text("FROM"), .number("JOBS"), .number("P50 MS"), .number("P95 MS"), .number("P99 MS"),
                .number("MAX MS"),
            ]
        )
        for (name, record) in [("commit", sinceCommit), ("insert", sinceInsert)] {
            table.rows.append(
                [name, "\(record.count)"]
                    + [record.percentile(50), record.percentile(95), record.percentile(99), record.maximum]
                    .map { String(format: "%.2f", $0) }
            )
        }
        return table
    }
}
