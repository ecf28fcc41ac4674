import CLibpq

extension Wire {
    /// Reads every answer that has arrived completely.
    func readAnswers() {
        // PQisBusy parses the bytes that have been read. Without it PQgetResult would block.
        while let connection, let head = pipeline.head, PQisBusy(connection) == 0 {
            guard handleResult(PQgetResult(connection), for: head) else { return closeAsLost() }
        }
    }

    /// Handles one answer for `head`, or nil, which separates the answers of statements. Returns false when the
    /// connection is unusable.
    private func handleResult(_ result: OpaquePointer?, for head: PipelineState.Unit) -> Bool {
        guard let result else {
            if head.kind == .script {
                endUnit()
                return true
            }
            return pipeline.statementEnded()
        }
        switch PQresultStatus(result) {
        case PGRES_TUPLES_OK, PGRES_COMMAND_OK, PGRES_EMPTY_QUERY:
            // The result is owned before it is known whether a caller still waits for it, so that it is freed in both
            // cases.
            let owned = QueryResult(owning: result)
            calls[head.id]?.results.append(owned)
            if let call = calls[head.id], call.resultsFirst, head.kind == .pipeline(statements: call.results.count) {
                call.answer.resultsArrived(call.results)
            }
            return true
        case PGRES_PIPELINE_SYNC:
            PQclear(result)
            endUnit()
            return true
        case PGRES_PIPELINE_ABORTED:
            PQclear(result)
            return true
        case PGRES_FATAL_ERROR, PGRES_BAD_RESPONSE:
            defer { PQclear(result) }
            let error = PostgresError(result: result, statement: pipeline.statementFailed())
            if error.code == .connectionLost {
                notices.lastFatal = error
                return false
            }
            if calls[head.id]?.error == nil { calls[head.id]?.error = error }
            return true
        default:
            let status = String(cString: PQresStatus(PQresultStatus(result)))
            PQclear(result)
            let message = "a statement was answered with \(status), which is not supported: do not use COPY here"
            close(
                PostgresError(.connectionLost, "the connection was closed: \(message)"),
                except: (head.id, PostgresError(.misuse, message))
            )
            return true
        }
    }

    private func endUnit() {
        guard let (unit, action) = pipeline.unitEnded(at: .now) else { return }
        if let call = calls.removeValue(forKey: unit.id) {
            call.answer.ended(call.outcome(of: unit))
        }
        perform(action)
    }
}

extension Wire.Call {
    /// `query_canceled`.
    private static let cancelledState = "57014"

    /// The result for the caller. A call that was stopped but still completed returns its results, because it did take
    /// effect.
    fileprivate func outcome(of unit: PipelineState.Unit) -> Result<[QueryResult], PostgresError> {
        guard let error else {
            if case .pipeline(let statements) = unit.kind, results.count != statements {
                let message = "the server answered \(statements) statements with \(results.count) results"
                return .failure(PostgresError(.decoding, message))
            }
            return .success(results)
        }
        guard let stopped = unit.stopped, error.sqlState == Self.cancelledState else { return .failure(error) }
        return .failure(stopped.error(timeout: timeout, note: "the server cancelled it and undid what it had done"))
    }
}
