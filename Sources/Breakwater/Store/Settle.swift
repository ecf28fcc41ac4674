package import Libpq

/// `breakwater.settle`: records how runs ended.
package struct Settle: StoreCall {
    /// Who ran them.
    package var worker: Int64
    /// The runs, each job at most once.
    package var runs: [FinishedRun]
    /// Claims of which nothing is left to settle after this.
    package var claims: [Int64]

    package struct Output: Sendable {
        package var settled: Int
        /// Jobs that this worker no longer held: their results changed nothing.
        package var stale: [Int64]
    }

    package var statement: Statement {
        let done = runs.filter { $0.ending.isSuccess }
        let others = runs.filter { !$0.ending.isSuccess }
        // Left empty in the usual case, where they would say nothing.
        let hasResults = done.contains { $0.ending.result != nil }
        let hasSlow = done.contains { $0.ending.isSlow }
        let hasKeys = done.contains { !$0.circuitKey.isEmpty }
        return Statement(
            """
            select settled, stale from breakwater.settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
            $14, $15, $16, $17, $18, $19, $20)
            """,
            [
                .int8(worker),
                .int8Array(done.map(\.id)),
                .int8Array(done.map(\.lease)),
                .int8Array(done.map(\.generation)),
                .boolArray(hasSlow ? done.map(\.ending.isSlow) : []),
                .textArray(hasKeys ? done.map(\.circuitKey) : []),
                .jsonbArray(hasResults ? done.map(\.ending.result) : []),
                .int8Array(others.map(\.id)),
                .int8Array(others.map(\.lease)),
                .int8Array(others.map(\.generation)),
                .textArray(others.map(\.circuitKey)),
                .textArray(others.map(\.ending.className)),
                .textArray(others.map(\.ending.effect.rawValue)),
                .boolArray(others.map(\.ending.isSlow)),
                .float8Array(others.map(\.ending.delay.inSeconds)),
                // Negative for none: an array of doubles has no room for nil here, and no wait is below zero.
                .float8Array(others.map { $0.ending.retryAfter?.inSeconds ?? -1 }),
                .textArray(others.map(\.ending.failure?.name)),
                .textArray(others.map(\.ending.failure?.message)),
                .int8Array(claims),
                .int8Array(runs.filter(\.isProbe).map(\.id)),
            ]
        )
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Output {
        Output(settled: try result[0][0].int(), stale: try result[0][1].int64Array())
    }
}

/// A run that has ended and waits to be settled.
package struct FinishedRun: Sendable {
    package var id: Int64
    package var queue: String
    package var kind: String
    package var lease: Int64
    package var generation: Int64
    package var isProbe: Bool
    package var circuitKey: String
    package var ending: Ending
    /// How long its handler ran, and how long it was ready before; for metrics.
    package var runTime = Duration.zero
    package var waitTime = Duration.zero

    package init(_ job: Job, _ ending: Ending) {
        id = job.id
        queue = job.queue
        kind = job.kind
        lease = job.lease
        generation = job.generation
        isProbe = job.isProbe
        circuitKey = job.circuitKey
        self.ending = ending
    }

    /// What a run that did not succeed means to its circuit.
    package enum Effect: String, Sendable {
        case failed, tripped, ignored
    }

    /// What is recorded of an outcome, once retry rules and delays are applied.
    package struct Ending: Sendable, Equatable {
        /// The class of the outcome: `succeeded`, `failed`, ….
        package var className: String
        package var failure: JobFailure?
        package var result: String?
        /// Until the next run.
        package var delay: Duration = .zero
        /// What the circuit learns of a run that did not succeed.
        package var effect = Effect.ignored
        /// Whether the run took longer than its handler's circuit allows.
        package var isSlow = false
        /// How long the dependency asked to be left alone, if the circuit honours that.
        package var retryAfter: Duration?

        package var isSuccess: Bool { className == "succeeded" }

        package static let released = Ending(className: "released")
    }
}
