import BreakwaterAdmin
import Libpq
import Synchronization

/// A repeated count of the jobs of a load that have been settled as succeeded.
///
/// Each count reads only the time slots that may have changed. While any session holds an old snapshot, every slot's
/// row keeps all its versions, and reading all of them would slow down the workers being measured.
struct SettledCount {
    private var load: BenchLoad
    /// The sum of the slots before `since`, which no longer change.
    private var before = 0
    private var since: Int64 = 0

    /// An upper bound for the duration of a settling transaction.
    private static let margin = Duration.seconds(30)

    init(_ load: BenchLoad) { self.load = load }

    mutating func total(in database: BenchDatabase) async throws -> Int {
        let row = try await database.admin.one(
            """
            with ended as materialized (
                select date_trunc('second', breakwater.clock() - $3::interval) as slot
            )
            select coalesce(sum(t.succeeded) filter (where t.slot < e.slot), 0)::int8,
                   coalesce(sum(t.succeeded) filter (where t.slot >= e.slot), 0)::int8,
                   extract(epoch from e.slot)::int8
              from ended e
              left join breakwater.tally t on t.kind = any ($1) and t.key = '' and t.slot >= to_timestamp($2::int8)
             group by e.slot
            """,
            [.textArray(load.kindNames), .int8(since), .interval(Self.margin)]
        )
        before += try row[0].int()
        since = try row[2].int64()
        return before + (try row[1].int())
    }
}

/// A number that one task writes and another reads, and a flag that asks the writing task to stop.
final class Tally: Sendable {
    private let count = Atomic(0)
    private let stopped = Atomic(false)

    var total: Int { count.load(ordering: .relaxed) }
    var isStopped: Bool { stopped.load(ordering: .relaxed) }

    func set(_ total: Int) { count.store(total, ordering: .relaxed) }
    func stop() { stopped.store(true, ordering: .relaxed) }
}
