import Breakwater
import Foundation
import Libpq
import Logging
import WorkerCommand

/// Measures how fast clients add jobs. Each client has its own session and commits after every statement.
struct EnqueueBenchmark {
    var clients: Int
    /// Jobs in a statement. With 1 it is a plain INSERT, otherwise a call of `breakwater.enqueue_many`.
    var batch: Int
    var duration: Duration

    struct Report {
        var jobs: Int
        var time: Duration
        /// How long a statement took, including its commit.
        var latency: LatencyRecord

        var rate: Double { Double(jobs) / (time / .seconds(1)) }
    }

    func run(in database: BenchDatabase) async throws -> Report {
        Terminal.complain("adding jobs for \(duration.text)")
        let start = ContinuousClock.now
        let latencies = try await withThrowingTaskGroup(of: [Duration].self) { group in
            for _ in 0..<clients { group.addTask { try await insert(in: database, until: start + duration) } }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        var latency = LatencyRecord()
        for one in latencies { latency.record(one) }
        return Report(jobs: latencies.count * batch, time: .now - start, latency: latency)
    }

    private func insert(in database: BenchDatabase, until end: ContinuousClock.Instant) async throws -> [Duration] {
        let connection = try await Connection.connect(database.options, logger: Logger(label: "worker"))
        let load = BenchLoad()
        let payload = #"{"number": 1, "text": "\#(String(repeating: "x", count: 72))"}"#
        let statement =
            batch == 1
            ? Statement(
                "insert into breakwater.job (queue, kind, payload) values ($1, $2, $3)",
                [.text(load.queueNames[0]), .text(load.kindNames[0]), .jsonb(payload)]
            )
            : Statement(
                "select count(*) from breakwater.enqueue_many($2, array_fill($3::jsonb, array[$4]), queue => $1)",
                [.text(load.queueNames[0]), .text(load.kindNames[0]), .jsonb(payload), .int4(Int32(clamping: batch))]
            )
        var latencies: [Duration] = []
        do {
            while .now < end {
                let start = ContinuousClock.now
                _ = try await connection.pipeline([statement])
                latencies.append(.now - start)
            }
        } catch {
            await connection.close()
            throw error
        }
        await connection.close()
        return latencies
    }
}

extension EnqueueBenchmark.Report {
    var json: JSONValue {
        .object([
            "jobs": .integer(Int64(jobs)),
            "jobs_per_second": .number(rate),
            "statement": latency.json,
        ])
    }

    var table: Table {
        var table = Table(columns: [.number("JOBS"), .number("JOBS A SECOND"), .number("P50 MS"), .number("P99 MS")])
        table.rows = [
            [
                "\(jobs)", "\(Int(rate))", String(format: "%.2f", latency.percentile(50)),
                String(format: "%.2f", latency.percentile(99)),
            ]
        ]
        return table
    }
}
