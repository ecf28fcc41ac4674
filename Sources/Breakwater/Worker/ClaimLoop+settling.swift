import Libpq
import Logging

extension ClaimLoop {
    /// The server refused a settle whose runs have been put back.
    mutating func refused(with error: PostgresError, on connection: isolated Connection) async throws(PostgresError) {
        refusals += 1
        // What may pass by itself is tried again as it is, over a new connection.
        guard !error.mayPass || refusals >= Self.patience else { throw error }
        try await settleOneByOne(on: connection, after: error)
    }

    /// The server settled a batch.
    mutating func settled(_ settle: Settle, _ output: Settle.Output) {
        refusals = 0
        refusedRuns = [:]
        note(output, of: settle)
    }

    /// After the server refused a batch, finds the runs at fault: everything else is settled as it is. One at fault is
    /// settled as a failure that says why; if not even that can be stored, it is put off; and if that is refused too, it
    /// is left to ``reconcile(on:)``, which gives the job back after a while.
    private mutating func settleOneByOne(
        on connection: isolated Connection,
        after batchError: PostgresError
    ) async throws(PostgresError) {
        let (worker, runs, claims) = engine.withState { state in
            let (runs, claims) = state.dispatcher.takeFinished()
            return (state.worker, runs, claims)
        }
        var left: [FinishedRun] = []
        var lastError: PostgresError?
        for (index, run) in runs.enumerated() {
            do {
                if let error = try await settle(run, by: worker, on: connection) {
                    lastError = error
                    left.append(run)
                }
            } catch {
                engine.withState { $0.dispatcher.putBack(left + runs[index...], claims: claims) }
                throw error
            }
        }
        engine.withState { $0.dispatcher.putBack(left, claims: claims) }
        if let lastError { throw lastError }
        // Every run could be settled, so the claim beside them was at fault.
        if batchError.statement == 1 { throw batchError }
    }

    /// - Returns: The error, if the run may be settled as it is later on.
    private mutating func settle(
        _ run: FinishedRun,
        by worker: Int64,
        on connection: isolated Connection
    ) async throws(PostgresError) -> PostgresError? {
        var run = run
        let key = Dispatcher.RunKey(id: run.id, lease: run.lease)
        var endings = [run.ending]
        // What stands for an outcome that cannot be stored, and for that in turn.
        var stand: [(PostgresError) -> FinishedRun.Ending] = [{ _ in .putOff }, { .unstorable($0) }]
        while let ending = endings.popLast() {
            run.ending = ending
            let call = Settle(worker: worker, runs: [run], claims: [])
            do {
                note(try await connection.call(call, timeout: engine.timeout), of: call)
                return nil
            } catch {
                guard error.isAnswer else { throw error }
                if error.mayPass {
                    refusedRuns[key, default: 0] += 1
                    if refusedRuns[key, default: 0] < Self.patience { return error }
                }
                engine.logger.error(
                    "the outcome of a job cannot be recorded",
                    metadata: [
                        "job": .stringConvertible(run.id), "outcome": "\(ending.className)", "error": "\(error)",
                    ]
                )
                endings = stand.popLast().map { [$0(error)] } ?? []
            }
        }
        engine.withState { $0.dispatcher.abandon(run) }
        return nil
    }

    private mutating func note(_ answer: Settle.Output, of settle: Settle) {
        engine.metrics.settled(settle.runs, stale: answer.stale, in: &runMetrics)
        engine.logger.trace("settled", metadata: settle.metadata(answer))
        if !answer.stale.isEmpty {
            engine.logger.warning(
                "results of jobs that this worker no longer holds changed nothing",
                metadata: ["job_ids": .array(answer.stale.map { .stringConvertible($0) })]
            )
        }
    }
}
