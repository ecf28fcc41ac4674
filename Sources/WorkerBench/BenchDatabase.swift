import BreakwaterAdmin
import Breakwater
import Foundation
import Libpq
import WorkerCommand

/// The database that a benchmark runs in.
struct BenchDatabase {
    var admin: AdminDatabase
    var options: ConnectionOptions

    /// The timeout of one preparatory statement.
    private static let timeout = Duration.seconds(1200)
    private static let benchmarkKinds = "\(BenchLoad.prefix)%"

    /// Connects, checks that no other jobs would be disturbed, runs `body`, and removes what the benchmark left.
    ///
    /// - Parameters:
    ///   - conninfo: The value of `--database`.
    ///   - isForced: Whether to run although the database has other jobs.
    ///   - leavesTraces: Whether the tallies, circuits and leftover jobs stay.
    static func with<Value>(
        _ conninfo: String?,
        isForced: Bool,
        leavesTraces: Bool = false,
        _ body: (BenchDatabase) async throws -> Value
    ) async throws -> Value {
        try await AdminDatabase.with(conninfo) { admin in
            try await Schema.check(on: admin.connection)
            let options = AdminDatabase.options(conninfo, environment: ProcessInfo.processInfo.environment)
            let database = BenchDatabase(admin: admin, options: options)
            if !isForced { try await database.refuseOthersJobs() }
            let value = try await body(database)
            if !leavesTraces { try await database.cleanUp() }
            return value
        }
    }

    private func refuseOthersJobs() async throws {
        let row = try await admin.one(
            "select exists (select from breakwater.job where kind not like $1)",
            [.text(Self.benchmarkKinds)]
        )
        guard try row[0].bool() else { return }
        throw CommandFailure(
            .refused,
            "this database (\(admin.place)) holds jobs, and a benchmark would slow them down. "
                + "Give another one (createdb bench; worker migrate --database …), or --force."
        )
    }

    /// Adds ready jobs that are spread over the kinds, queues and priorities of `load`.
    func fill(_ load: BenchLoad, jobs: Int) async throws {
        _ = try await admin.connection.query(
            """
            insert into breakwater.job (queue, kind, priority, payload)
            select ($2::text[])[1 + i / $5 % cardinality($2)], ($3::text[])[1 + i % $5],
                   case when $4 = 1 then 5 else i % $4 end,
                   jsonb_build_object('number', i, 'text', repeat('x', 72))
              from generate_series(0, $1 - 1) i
            """,
            [
                .int8(Int64(jobs)), .textArray(load.queueNames), .textArray(load.kindNames),
                .int8(Int64(load.priorities)), .int8(Int64(load.kinds)),
            ],
            timeout: Self.timeout
        )
    }

    /// How many jobs of `load` have ever been settled as succeeded. The transaction that settles a job also counts it,
    /// so the count is as durable as the jobs' outcomes.
    func settled(_ load: BenchLoad) async throws -> Int {
        try await admin.one(
            "select coalesce(sum(succeeded), 0)::int8 from breakwater.tally where kind = any ($1) and key = ''",
            [.textArray(load.kindNames)]
        )[0].int()
    }

    /// Deletes all that the database keeps of the benchmarks' kinds: jobs, dead letters, handlers, circuits, tallies
    /// and lanes.
    func cleanUp() async throws {
        for table in ["job", "dead_letter", "handler", "circuit", "tally"] {
            _ = try await admin.connection.query(
                "delete from breakwater.\(table) where kind like $1",
                [.text(Self.benchmarkKinds)],
                timeout: Self.timeout
            )
        }
        _ = try await admin.connection.query(
            """
            with gone as (delete from breakwater.lane where kind like $1 returning id)
            delete from breakwater.claim c using gone g where c.lane = g.id
            """,
            [.text(Self.benchmarkKinds)]
        )
    }
}
