package import Libpq

/// `breakwater.settle`: records how runs ended.
package struct Settle: StoreCall {
    /// The worker that ran the jobs.
    package var worker: Int64
    /// The runs, each job at most once.
    package var runs: [FinishedRun]
    /// The claims that have nothing left to settle after this.
    package var claims: [Int64]
    /// What the calls of kinds with an adaptive limit took.
    package var measured: [MeasuredCalls] = []

    /// The calls of one kind.
    package struct MeasuredCalls: Sendable {
        package var kind: String
        package var calls: Int32 = 0
        /// The sum of their times.
        package var seconds = 0.0
        /// How many were slow, throttled or unavailable.
        package var bad: Int32 = 0
    }

    /// What the runs had reported and is not stored yet, to be stored in the same transaction, before the runs are
    /// settled; nil for nothing.
    var reports: ReportProgress? {
        let reports = runs.compactMap { $0.isPlainSuccess ? nil : $0.ending.report }
        return reports.isEmpty ? nil : ReportProgress(worker: worker, reports: reports)
    }

    /// Whether there is nothing to record.
    var isEmpty: Bool { runs.isEmpty && claims.isEmpty }

    package struct Output: Sendable {
        package var settled: Int
        /// The ids of jobs that this worker no longer held. Their results changed nothing.
        package var stale: [Int64]
        /// The kinds that are stopped, each with a generation. It is filled only if calls failed; see
        /// ``Beat/Output/stopped``.
        package var stopped: [String: Int64]
    }

    package var statement: Statement {
        let others = runs.filter { !$0.isSuccess }
        let successes = Successes(runs)
        return Statement(
            """
            select settled, stale, stopped, generations from breakwater.settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
            $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31)
            """,
            [.int8(worker)]
                + successes.parameters
                + [
                    .int8Array(others.map(\.id)),
                    .int8Array(others.map(\.lease)),
                    .int8Array(others.map(\.generation)),
                    .textArray(others.map(\.circuitKey)),
                    .textArray(others.map(\.ending.outcomeClass.rawValue)),
                    .textArray(others.map(\.ending.effect.rawValue)),
                    .boolArray(others.map(\.ending.isSlow)),
                    .float8Array(others.map(\.ending.delay.inSeconds)),
                    // A negative value stands for none, because this array of doubles cannot contain nil. No delay is
                    // negative.
                    .float8Array(others.map { $0.ending.retryAfter?.inSeconds ?? -1 }),
                    .textArray(others.map(\.ending.failure?.name)),
                    .textArray(others.map(\.ending.failure?.message)),
                    .int8Array(claims),
                    .int8Array(runs.filter(\.isProbe).map(\.id)),
                ]
                + successes.placeParameters
                + [
                    .textArray(measured.map(\.kind)), .int4Array(measured.map(\.calls)),
                    .float8Array(measured.map(\.seconds)), .int4Array(measured.map(\.bad)),
                ]
        )
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Output {
        let row = try result.row(0)
        return Output(
            settled: try row[0].int(),
            stale: try row[1].int64Array(),
            stopped: try row.stoppedKinds(from: 2)
        )
    }
}

/// The successes among some runs, collected in one pass, because there may be thousands of them.
private struct Successes {
    /// The values that calls of one tally have in common.
    private struct Call: Hashable {
        var kind: String
        var key: String
        var generation: Int64
    }

    private struct Tally {
        var succeeded: Int32 = 0
        var slow: Int32 = 0
        var retries: Int32 = 0
    }

    private var ids: [Int64] = []
    private var leases: [Int64] = []
    private var generations: [Int64] = []
    private var tuples: [TupleID] = []
    // These stay empty in the usual case, in which they would have no information.
    private var slow: [Bool] = []
    private var keys: [String] = []
    private var results: [String?] = []
    private var tallies: [(call: Call, tally: Tally)] = []

    init(_ runs: [FinishedRun]) {
        ids.reserveCapacity(runs.count)
        leases.reserveCapacity(runs.count)
        generations.reserveCapacity(runs.count)
        tuples.reserveCapacity(runs.count)
        let done = runs.lazy.filter { $0.isSuccess }
        var (hasSlow, hasKeys, hasResults) = (false, false, false)
        var places: [Call: Int] = [:]
        var last: (run: FinishedRun, place: Int)?
        for run in done {
            ids.append(run.id)
            leases.append(run.lease)
            generations.append(run.generation)
            tuples.append(run.tuple)
            if !run.isPlainSuccess {
                hasSlow = hasSlow || run.ending.isSlow
                hasResults = hasResults || run.ending.result != nil
            }
            // Usually a run is like the previous one.
            if last.map({ !$0.run.sharesTexts(with: run) || $0.run.generation != run.generation }) ?? true {
                hasKeys = hasKeys || !run.circuitKey.isEmpty
                let call = Call(kind: run.kind, key: run.circuitKey, generation: run.generation)
                let place = places[call] ?? tallies.count
                if place == tallies.count {
                    places[call] = place
                    tallies.append((call, Tally()))
                }
                last = (run, place)
            }
            guard let place = last?.place else { continue }
            tallies[place].tally.succeeded += 1
            if !run.isPlainSuccess, run.ending.isSlow { tallies[place].tally.slow += 1 }
            if run.attempt > 1 { tallies[place].tally.retries += 1 }
        }
        if hasSlow { slow = done.map(\.ending.isSlow) }
        if hasKeys { keys = done.map(\.circuitKey) }
        if hasResults { results = done.map(\.ending.result) }
    }

    var parameters: [Parameter] {
        [
            .int8Array(ids), .int8Array(leases), .int8Array(generations), .boolArray(slow), .textArray(keys),
            .jsonbArray(results),
        ]
    }

    /// The parameters with the locations of the rows of successful jobs, and with the sums of the successes.
    var placeParameters: [Parameter] {
        [
            .tupleIDArray(tuples),
            .textArray(tallies.map(\.call.kind)),
            .textArray(tallies.map(\.call.key)),
            .int8Array(tallies.map(\.call.generation)),
            .int4Array(tallies.map(\.tally.succeeded)),
            .int4Array(tallies.map(\.tally.slow)),
            .int4Array(tallies.map(\.tally.retries)),
        ]
    }
}
