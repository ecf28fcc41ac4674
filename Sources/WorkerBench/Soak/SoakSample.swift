import BreakwaterAdmin
import Foundation
import Libpq
import WorkerCommand

/// The measurements at one time of a soak.
struct SoakSample: Equatable {
    /// The time since the load began.
    var seconds: Double
    var addedPerSecond: Double
    var settledPerSecond: Double
    /// The time from a job's commit to the start of its handler, in milliseconds, for jobs since the previous sample.
    var p50: Double
    var p99: Double
    var max: Double
    /// The number of runs that have failed so far.
    var failedRuns: Int
    var storage: SoakStorage
    /// The resident memory of the worker's process, in bytes.
    var memory: Int64

    /// The columns of the CSV, in order.
    static let columns: [(name: String, value: @Sendable (SoakSample) -> String)] = [
        ("seconds", { $0.seconds.csv(1) }),
        ("enqueued_per_second", { $0.addedPerSecond.csv(0) }),
        ("settled_per_second", { $0.settledPerSecond.csv(0) }),
        ("latency_p50_ms", { $0.p50.csv(2) }),
        ("latency_p99_ms", { $0.p99.csv(2) }),
        ("latency_max_ms", { $0.max.csv(2) }),
        ("ready_jobs", { "\($0.storage.ready)" }),
        ("waiting_jobs", { "\($0.storage.waiting)" }),
        ("failed_runs", { "\($0.failedRuns)" }),
        ("job_bytes", { "\($0.storage.table)" }),
        ("lane_index_bytes", { "\($0.storage.laneIndex)" }),
        ("other_index_bytes", { "\($0.storage.otherIndexes)" }),
        ("dead_tuples", { "\($0.storage.deadTuples)" }),
        ("worker_bytes", { "\($0.memory)" }),
    ]

    static var csvHeader: String { columns.map(\.name).joined(separator: ",") }

    /// The sample as a line of CSV. All values are numbers, so none needs quotes.
    var csv: String { Self.columns.map { $0.value(self) }.joined(separator: ",") }

    /// The sample as JSON.
    var json: JSONValue { .object(Self.columns.map { JSONValue.Member($0.name, .raw($0.value(self))) }) }
}

/// The jobs' rows and their size on disk.
struct SoakStorage: Equatable {
    var ready: Int
    /// Jobs that wait for a retry or for their scheduled time.
    var waiting: Int
    /// The size of the table in bytes.
    var table: Int64
    var laneIndex: Int64
    var otherIndexes: Int64
    /// The dead rows, as the server's statistics count them.
    var deadTuples: Int64
}

extension SoakStorage {
    init(of load: BenchLoad, in database: BenchDatabase) async throws {
        let row = try await database.admin.connection.query(
            """
            select (select count(*) from breakwater.job where kind = any ($1) and run_at is null),
                   (select count(*) from breakwater.job where kind = any ($1) and run_at is not null),
                   pg_table_size('breakwater.job'), pg_relation_size('breakwater.job_lane'),
                   pg_indexes_size('breakwater.job') - pg_relation_size('breakwater.job_lane'),
                   pg_stat_get_dead_tuples('breakwater.job'::regclass)
            """,
            [.textArray(load.kindNames)],
            timeout: .seconds(60)
        )[0]
        self.init(
            ready: try row[0].int(),
            waiting: try row[1].int(),
            table: try row[2].int64(),
            laneIndex: try row[3].int64(),
            otherIndexes: try row[4].int64(),
            deadTuples: try row[5].int64()
        )
    }
}

extension Double {
    /// The number with this many decimal places, and a decimal point in every locale.
    fileprivate func csv(_ places: Int) -> String { String(format: "%.\(places)f", self) }
}
