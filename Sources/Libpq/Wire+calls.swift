import CLibpq

extension Wire {
    /// The content of a call.
    enum Work {
        case pipeline([Statement])
        case prepare(name: String, sql: String)
        case script(String)

        var kind: PipelineState.Kind {
            switch self {
            case .pipeline(let statements): .pipeline(statements: statements.count)
            case .prepare: .pipeline(statements: 1)
            case .script: .script
            }
        }
    }

    /// A call that waits for its answer.
    struct Call {
        /// The content, which is released after it was sent because its parameters may be large.
        var work: Work?
        let timeout: Duration
        let answer: Answer
        /// Whether the results are wanted before the transaction is committed.
        var resultsFirst = false
        var results: [QueryResult] = []
        /// The first error. The rest of the unit failed because of it.
        var error: PostgresError?
    }

    /// Runs one unit, which must have been validated, and waits for its answer.
    func run(_ work: Work, timeout: Duration) async throws(PostgresError) -> [QueryResult] {
        try await submit(work, timeout: timeout).end()
    }

    /// Sends statements now if possible, without waiting for their answer.
    func send(_ statements: [Statement], timeout: Duration, resultsFirst: Bool) -> Answer {
        let answer = submit(.pipeline(statements), timeout: timeout, resultsFirst: resultsFirst)
        sendWaiting()
        flush()
        return answer
    }

    private func submit(_ work: Work, timeout: Duration, resultsFirst: Bool = false) -> Answer {
        lastID += 1
        let id = lastID
        let answer = Answer { [loop] in
            loop.post { wire in wire.perform(wire.pipeline.stop(id, .cancelled, at: .now)) }
        }
        submit(Call(work: work, timeout: timeout, answer: answer, resultsFirst: resultsFirst), as: id)
        return answer
    }

    private func submit(_ call: Call, as id: PipelineState.UnitID) {
        if let reason = end.reason {
            var error = reason
            error.code = .connectionLost
            error.message = "the connection has ended: \(reason.message)"
            return call.answer.ended(.failure(error))
        }
        if Task.isCancelled {
            let error = PostgresError(.cancelled, "the task was cancelled; the call was not sent")
            return call.answer.ended(.failure(error))
        }
        guard let kind = call.work?.kind else { return }
        calls[id] = call
        pipeline.submit(PipelineState.Unit(id: id, kind: kind, deadline: .now + min(call.timeout, Self.maximumTimeout)))
    }

    /// Sends every unit that may be sent now.
    func sendWaiting() {
        while let connection, let unit = pipeline.dequeueNextToSend() {
            let (work, resultsFirst) = (calls[unit.id]?.work, calls[unit.id]?.resultsFirst ?? false)
            calls[unit.id]?.work = nil
            guard let work, send(work, resultsFirst: resultsFirst, on: connection) else {
                let said = PostgresError.lastMessage(of: connection)
                return close(PostgresError(.connectionLost, "libpq could not send a call: \(said)"))
            }
        }
    }

    private func send(_ work: Work, resultsFirst: Bool, on connection: OpaquePointer) -> Bool {
        let isPipelining = PQpipelineStatus(connection) != PQ_PIPELINE_OFF
        if case .script(let sql) = work {
            // The simple protocol requires that libpq leaves pipeline mode, which is possible because nothing is in
            // flight.
            if isPipelining, PQexitPipelineMode(connection) == 0 { return false }
            return PQsendQuery(connection, sql) == 1
        }
        if !isPipelining, PQenterPipelineMode(connection) == 0 { return false }
        switch work {
        case .pipeline(let statements):
            guard statements.allSatisfy({ $0.send(on: connection) }) else { return false }
        case .prepare(let name, let sql):
            guard PQsendPrepare(connection, name, sql, 0, nil) == 1 else { return false }
        case .script:
            break
        }
        // Without a flush request, the server sends the last results only after the commit.
        if resultsFirst, PQsendFlushRequest(connection) == 0 { return false }
        return PQpipelineSync(connection) == 1
    }
}
