import CLibpq
import Logging

extension Wire {
    /// Stops every call whose deadline has passed.
    func expire() {
        while case .open = phase {
            let action = pipeline.expire(at: .now)
            if action == .nothing { return }
            perform(action)
        }
    }

    func perform(_ action: PipelineState.Action) {
        switch action {
        case .nothing:
            break
        case .refuse(let id, let reason):
            answer(id, reason, "it was not sent")
        case .abandon(let id, let reason):
            answer(id, reason, "it was in flight behind another call, and what becomes of it is not known")
        case .cancelOnServer(let id, let reason):
            cancelOnServer(id, reason)
        case .close(let id, let reason):
            close(for: id, reason, "for a cancel went unanswered or might have hit another call")
        }
    }

    private func close(for id: PipelineState.UnitID, _ reason: PipelineState.StopReason, _ why: String) {
        let timeout = calls[id]?.timeout ?? .zero
        let note = "the connection was closed, \(why); what became of it is not known"
        close(
            PostgresError(.connectionLost, "the connection was closed to stop a call that was \(reason)"),
            except: (id, reason.error(timeout: timeout, note: note))
        )
    }

    private func answer(_ id: PipelineState.UnitID, _ reason: PipelineState.StopReason, _ note: String) {
        guard let call = calls.removeValue(forKey: id) else { return }
        call.answer.ended(.failure(reason.error(timeout: call.timeout, note: note)))
    }

    private func cancelOnServer(_ id: PipelineState.UnitID, _ reason: PipelineState.StopReason) {
        if isPooled { return close(for: id, reason, "for a cancel through a pooler might hit another's call") }
        // Without a cancel request the connection is closed when the grace time has elapsed.
        guard let connection, let request = CancelRequest(connection) else { return }
        request.send { [loop, logger] failure in
            if let failure {
                // The request may still arrive, so it counts as in progress until the grace time closes the connection.
                logger.warning("a cancel request failed", metadata: ["error": "\(failure)"])
                return
            }
            loop.post { $0.pipeline.cancelRequestReturned() }
        }
    }
}

extension PipelineState.StopReason: CustomStringConvertible {
    var description: String {
        switch self {
        case .cancelled: "cancelled"
        case .timedOut: "past its deadline"
        }
    }

    /// The error for the caller of a call that was stopped for this reason.
    func error(timeout: Duration, note: String) -> PostgresError {
        switch self {
        case .cancelled: PostgresError(.cancelled, "the call was cancelled; \(note)")
        case .timedOut: PostgresError(.timedOut, "no answer within \(timeout); \(note)")
        }
    }
}
