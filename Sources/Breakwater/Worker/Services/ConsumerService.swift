import Libpq
import Logging

/// Sends the consumer's requests over one connection after another, and passes the answers back.
///
/// It runs on its connection's thread. On the threads that run handlers it would have to wait for the jobs of the last
/// claim before it could send the next request.
struct ConsumerService {
    let engine: Engine
    private var runMetrics: RunMetrics
    /// The requests that were sent and not answered, the oldest first.
    private var sent: [Sent] = []

    private struct Sent {
        var request: Request
        var time: MonotonicClock.Instant
        /// The answer to the claim, if there is one, and the answer that ends the request.
        var claim: Answer?
        var end: Answer
        /// The error if the settle could not be sent. It counts as a refusal by the server.
        var refusal: PostgresError?
    }

    init(_ engine: Engine) {
        self.engine = engine
        runMetrics = RunMetrics(engine.configuration.handlers)
    }

    /// Runs until the consumer has nothing left to do after a shutdown.
    mutating func run() async {
        await engine.keepConnected(for: .claims) { connection, delay throws(PostgresError) in
            sent = []
            defer { engine.lockWatch.callEnded(.claims) }
            engine.handle(.connected)
            do throws(PostgresError) {
                try await serve(connection, &delay)
            } catch {
                engine.dropRequests()
                throw error
            }
        }
    }

    private mutating func serve(_ connection: isolated Connection, _ delay: inout ReconnectDelay)
        async throws(PostgresError)
    {
        while !Task.isCancelled {
            engine.health.recordIteration(of: .claims)
            if let fault = engine.consumeFault() { throw fault }
            while let request = engine.dequeueRequest() { sent.append(try send(request, on: connection)) }
            if engine.hasStopped { return }
            guard let first = sent.first else {
                engine.lockWatch.callEnded(.claims)
                await engine.requests.wait()
                continue
            }
            engine.lockWatch.callBegan(.claims, at: first.time)
            if let claim = first.claim {
                sent[0].claim = nil
                let answer = try await answer(to: first.request, claim)
                if case .claimed = answer { delay.reset() }
                engine.handle(.answered(first.request.id, answer))
            } else {
                sent.removeFirst()
                let answer = try await end(of: first)
                // Only a durable settle or flush proves that the connection works, so that a reconnect need not wait.
                if case .settled = answer { delay.reset() }
                engine.handle(.answered(first.request.id, answer))
            }
        }
    }

    private func send(_ request: Request, on connection: isolated Connection) throws(PostgresError) -> Sent {
        /// Sends a statement, and another one before it in the same transaction.
        func call(_ statement: Statement, after first: Statement? = nil) throws(PostgresError) -> Answer {
            let statements = if let first { [first, statement] } else { [statement] }
            return try connection.send(statements, timeout: engine.timeout, resultsFirst: false)
        }
        /// Sends a settle, or a flush if there is none. A settle that cannot be sent, for example because of a NUL in a
        /// text, counts as refused by the server.
        func callOrFlush(_ settle: Settle?) throws(PostgresError) -> (Answer, PostgresError?) {
            var refusal: PostgresError?
            do {
                if let settle { return (try call(settle.statement, after: settle.reports?.statement), nil) }
            } catch {
                guard error.isAnswer else { throw error }
                refusal = error
            }
            return (try call(Flush(worker: engine.worker).statement), refusal)
        }
        let now = engine.clock.now
        switch request.work {
        case .exchange(let claim, let settle):
            let claimed = if let claim { try call(claim.statement) } else { nil as Answer? }
            let (end, refusal) = try callOrFlush(settle)
            return Sent(request: request, time: now, claim: claimed, end: end, refusal: refusal)
        case .settleAlone(let settle):
            let (end, refusal) = try callOrFlush(settle)
            return Sent(request: request, time: now, end: end, refusal: refusal)
        case .reconcile(let reconcile):
            return Sent(request: request, time: now, end: try call(reconcile.statement))
        case .sleep(let sleep):
            return Sent(request: request, time: now, end: try call(sleep.statement))
        case .poll(let poll):
            return Sent(request: request, time: now, end: try call(poll.statement))
        case .claimSuspects(let claim):
            return Sent(request: request, time: now, end: try call(claim.statement))
        case .examine(let examination):
            // The server may need seconds for each job that it cannot read.
            let timeout = max(engine.timeout, .seconds(60))
            let end = try connection.send([examination.statement], timeout: timeout, resultsFirst: false)
            return Sent(request: request, time: now, end: end)
        }
    }

    /// Waits for the jobs of a claim.
    private func answer(to request: Request, _ answer: Answer) async throws(PostgresError) -> Consumer.Answer {
        guard case .exchange(let claim?, _) = request.work else { return .done }
        do {
            let result = try await answer.end()[0]
            let jobs = try claim.decode(result)
            engine.metrics.claimed(jobs.count)
            engine.logger.trace("claimed", metadata: claim.metadata(jobs))
            return .claimed(jobs, heldBack: try claim.heldBack(result))
        } catch {
            guard error.isAnswer else { throw error }
            return .claimRefused(error)
        }
    }

    /// Waits for the answer that ends a request.
    private mutating func end(of sent: Sent) async throws(PostgresError) -> Consumer.Answer {
        let result: QueryResult
        do {
            let results = try await sent.end.end()
            result = results[results.count - 1]
            if let refusal = sent.refusal { return .settleRefused(refusal) }
        } catch {
            guard error.isAnswer else { throw error }
            return .settleRefused(error)
        }
        switch sent.request.work {
        case .exchange(let claim, let settle):
            engine.metrics.record(claim == nil ? .settle : settle == nil ? .claim : .settleAndClaim, since: sent.time)
            guard let settle else { return .settled() }
            return .settled(stopped: record(try settle.decode(result), of: settle))
        case .settleAlone(let settle):
            return .settled(stopped: record(try settle.decode(result), of: settle))
        case .reconcile(let reconcile):
            return .reconciled(jobs: try reconcile.decode(result))
        case .sleep, .poll:
            return .done
        case .claimSuspects(let claim):
            let jobs = try claim.decode(result)
            engine.metrics.claimed(jobs.count)
            engine.logger.trace("claimed", metadata: claim.metadata(jobs))
            return .claimed(jobs)
        case .examine(let examination):
            return .examined(unreadable: try examination.decode(result))
        }
    }

    /// Returns the kinds that are stopped according to the answer.
    private mutating func record(_ answer: Settle.Output, of settle: Settle) -> [String: Int64] {
        engine.metrics.settled(settle.runs, stale: answer.stale, in: &runMetrics)
        engine.logger.trace("settled", metadata: settle.metadata(answer))
        if !answer.stale.isEmpty {
            engine.logger.warning(
                "results of jobs that this worker no longer holds changed nothing",
                metadata: ["job_ids": .array(answer.stale.map { .stringConvertible($0) })]
            )
        }
        return answer.stopped
    }
}
