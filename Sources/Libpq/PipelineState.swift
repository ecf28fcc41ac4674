/// The order of calls on one connection, as a value: which may be sent, whose answer is being read, and what to do
/// when one is cancelled or past its deadline. It knows nothing of libpq and of clocks.
///
/// A unit is one call: some statements that end in one Sync, or a script of the simple protocol. A unit goes from
/// waiting to in flight to answered; several pipelined units may be in flight, a script only alone.
struct PipelineState {
    typealias Instant = ContinuousClock.Instant
    typealias UnitID = UInt64

    enum Kind: Equatable {
        case pipeline(statements: Int)
        case script
    }

    enum StopReason: Equatable { case cancelled, timedOut }

    struct Unit: Equatable {
        let id: UnitID
        let kind: Kind
        let deadline: Instant
        /// Set when the caller gave up on it in flight: it is to be cancelled on the server, or waited out.
        var stopped: StopReason?
        /// How many of its statements have been answered.
        var answeredStatements = 0
        /// Whether all of them ran and their commit failed, as deferred constraints can make it.
        var hasFailedAtCommit = false
    }

    /// What the shell is to do.
    enum Action: Equatable {
        case nothing
        /// Tell the caller; the unit was never sent.
        case refuse(UnitID, StopReason)
        /// Tell the caller; the unit is behind others in flight and what becomes of it is not known.
        case abandon(UnitID, StopReason)
        /// Ask the server to cancel what runs: it is this unit, and nothing is behind it.
        case cancelOnServer(UnitID, StopReason)
        /// Close the connection because of this unit: cancelling might hit another, or the server is silent.
        case close(UnitID, StopReason)
    }

    /// A cancel that is under way. Nothing is sent until both the unit and the request have ended.
    struct Cancel: Equatable {
        let unit: UnitID
        let reason: StopReason
        let deadline: Instant
        var unitHasEnded = false
        var requestHasReturned = false
    }

    /// How long the server has to answer after a cancel before the connection is given up.
    static let cancelGrace = Duration.seconds(3)
    /// How many units may be in flight; the rest wait here rather than in socket buffers. One behind a pooler. With
    /// several, pgbouncer 1.18 gives the session of a client that leaves between two answers to the next client, which
    /// then gets the second answer.
    var maximumInFlight = 256
    private(set) var waiting: [Unit] = []
    private(set) var inFlight: [Unit] = []
    private(set) var cancel: Cancel?

    /// The unit whose answer comes next.
    var head: Unit? { inFlight.first }

    /// The next instant at which ``expire(at:)`` has something to do.
    var nextDeadline: Instant? {
        var next = cancel?.deadline
        for unit in inFlight where unit.stopped == nil { next = min(next ?? unit.deadline, unit.deadline) }
        for unit in waiting { next = min(next ?? unit.deadline, unit.deadline) }
        return next
    }

    /// Whether a unit that waits may be sent: behind one that is to be cancelled nothing may follow, and a script
    /// goes alone.
    var canSend: Bool {
        guard let next = waiting.first, cancel == nil, inFlight.count < maximumInFlight else { return false }
        if next.kind == .script { return inFlight.isEmpty }
        return inFlight.allSatisfy { $0.stopped == nil && $0.kind != .script }
    }

    mutating func submit(_ unit: Unit) {
        waiting.append(unit)
    }

    /// The unit to send now, which is in flight from here on; nil when none may be sent.
    mutating func takeNextToSend() -> Unit? {
        guard canSend else { return nil }
        let next = waiting.removeFirst()
        inFlight.append(next)
        return next
    }

    /// The statement of the head that an error is about; nil if it is about the head as a whole.
    mutating func statementFailed() -> Int? {
        guard case .pipeline(let statements)? = head?.kind else { return nil }
        guard inFlight[0].answeredStatements < statements else {
            inFlight[0].hasFailedAtCommit = true
            return nil
        }
        return inFlight[0].answeredStatements
    }

    /// The head's current statement, or its commit that failed, has been answered whole; false when there is no such
    /// thing.
    mutating func statementEnded() -> Bool {
        guard case .pipeline(let statements)? = head?.kind else { return false }
        guard inFlight[0].answeredStatements < statements else { return inFlight[0].hasFailedAtCommit }
        inFlight[0].answeredStatements += 1
        return true
    }

    /// The head has been answered whole: it, and what to do about the new head.
    mutating func unitEnded(at now: Instant) -> (ended: Unit, Action)? {
        guard !inFlight.isEmpty else { return nil }
        let ended = inFlight.removeFirst()
        if cancel?.unit == ended.id {
            cancel?.unitHasEnded = true
            endCancelIfDone()
        }
        if let head, let reason = head.stopped { return (ended, stopHead(reason, at: now)) }
        return (ended, .nothing)
    }

    /// The request to cancel has been delivered, so that it can hit nothing that is sent from now on.
    mutating func cancelRequestReturned() {
        cancel?.requestHasReturned = true
        endCancelIfDone()
    }

    /// The caller of `id` gives up.
    mutating func stop(_ id: UnitID, _ reason: StopReason, at now: Instant) -> Action {
        if let index = waiting.firstIndex(where: { $0.id == id }) {
            waiting.remove(at: index)
            return .refuse(id, reason)
        }
        guard let index = inFlight.firstIndex(where: { $0.id == id }), inFlight[index].stopped == nil else {
            return .nothing
        }
        inFlight[index].stopped = reason
        return index == 0 ? stopHead(reason, at: now) : .abandon(id, reason)
    }

    /// One thing that is due at `now`; call until it answers ``Action/nothing``.
    mutating func expire(at now: Instant) -> Action {
        if let cancel, cancel.deadline <= now { return .close(cancel.unit, cancel.reason) }
        let due = (inFlight.filter { $0.stopped == nil } + waiting).first { $0.deadline <= now }
        return due.map { stop($0.id, .timedOut, at: now) } ?? .nothing
    }

    private mutating func stopHead(_ reason: StopReason, at now: Instant) -> Action {
        let id = inFlight[0].id
        // An earlier cancel's request is still on its way and might hit this unit; nothing can be made of both.
        guard inFlight.count == 1, cancel == nil else { return .close(id, reason) }
        cancel = Cancel(unit: id, reason: reason, deadline: now + Self.cancelGrace)
        return .cancelOnServer(id, reason)
    }

    private mutating func endCancelIfDone() {
        if let cancel, cancel.unitHasEnded, cancel.requestHasReturned { self.cancel = nil }
    }
}
