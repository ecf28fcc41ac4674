/// The order of calls on one connection, as a pure value: it decides which call may be sent, whose answer is being
/// read, and what to do when a call is cancelled or past its deadline. It uses neither libpq nor a clock.
///
/// A unit is one call: some statements that end in one Sync, or a script of the simple protocol. A unit goes from
/// waiting to in flight to answered. Several pipelined units may be in flight, but a script only alone.
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
        /// The reason if the caller gave up the unit in flight. It is then cancelled on the server, or its end is
        /// awaited.
        var stopped: StopReason?
        /// How many of the unit's statements have been answered.
        var answeredStatements = 0
        /// Whether all statements ran but the commit failed, which deferred constraints can cause.
        var hasFailedAtCommit = false
    }

    /// The actions for the wire.
    enum Action: Equatable {
        case nothing
        /// Report to the caller that the unit was never sent.
        case refuse(UnitID, StopReason)
        /// Report to the caller that the unit's result is unknown, because it is behind others in flight.
        case abandon(UnitID, StopReason)
        /// Ask the server to cancel the running unit, which is this one. No other unit is behind it.
        case cancelOnServer(UnitID, StopReason)
        /// Close the connection because of this unit, since cancelling might affect another unit, or the server does
        /// not answer.
        case close(UnitID, StopReason)
    }

    /// A cancel in progress. Nothing is sent until both the unit and the request have ended.
    struct Cancel: Equatable {
        let unit: UnitID
        let reason: StopReason
        let deadline: Instant
        var unitHasEnded = false
        var requestHasReturned = false
    }

    /// How long the server may take to answer after a cancel before the connection is closed.
    static let cancelGrace = Duration.seconds(3)
    /// The most units in flight. Further ones wait here rather than in socket buffers. Behind a pooler it is one,
    /// because with several, pgbouncer 1.18 can assign the session of a client that disconnects between two answers to
    /// another client, which then receives the second answer.
    var maximumInFlight = 256
    private(set) var waiting: [Unit] = []
    private(set) var inFlight: [Unit] = []
    private(set) var cancel: Cancel?

    /// The unit whose answer is next.
    var head: Unit? { inFlight.first }

    /// The next instant at which ``expire(at:)`` has work.
    var nextDeadline: Instant? {
        var next = cancel?.deadline
        for unit in inFlight where unit.stopped == nil { next = min(next ?? unit.deadline, unit.deadline) }
        for unit in waiting { next = min(next ?? unit.deadline, unit.deadline) }
        return next
    }

    /// Whether a waiting unit may be sent. Nothing may be sent behind a unit that is to be cancelled, and a script must
    /// be alone.
    var canSend: Bool {
        guard let next = waiting.first, cancel == nil, inFlight.count < maximumInFlight else { return false }
        if next.kind == .script { return inFlight.isEmpty }
        return inFlight.allSatisfy { $0.stopped == nil && $0.kind != .script }
    }

    mutating func submit(_ unit: Unit) {
        waiting.append(unit)
    }

    /// Takes the unit to send now, which is then in flight; nil when none may be sent.
    mutating func dequeueNextToSend() -> Unit? {
        guard canSend else { return nil }
        let next = waiting.removeFirst()
        inFlight.append(next)
        return next
    }

    /// Records that a statement of the head failed, and returns its index; nil if the error is about the head as a
    /// whole.
    mutating func statementFailed() -> Int? {
        guard case .pipeline(let statements)? = head?.kind else { return nil }
        guard inFlight[0].answeredStatements < statements else {
            inFlight[0].hasFailedAtCommit = true
            return nil
        }
        return inFlight[0].answeredStatements
    }

    /// Records that the head's current statement, or its failed commit, has been answered completely. Returns false
    /// when there is neither.
    mutating func statementEnded() -> Bool {
        guard case .pipeline(let statements)? = head?.kind else { return false }
        guard inFlight[0].answeredStatements < statements else { return inFlight[0].hasFailedAtCommit }
        inFlight[0].answeredStatements += 1
        return true
    }

    /// Records that the head has been answered completely. Returns it, and the action for the new head.
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

    /// Records that the cancel request has been delivered, so that it cannot affect anything that is sent from now on.
    mutating func cancelRequestReturned() {
        cancel?.requestHasReturned = true
        endCancelIfDone()
    }

    /// Records that the caller of `id` gives up.
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

    /// Returns one action that is due at `now`. Call it until it returns ``Action/nothing``.
    mutating func expire(at now: Instant) -> Action {
        if let cancel, cancel.deadline <= now { return .close(cancel.unit, cancel.reason) }
        let due = (inFlight.filter { $0.stopped == nil } + waiting).first { $0.deadline <= now }
        return due.map { stop($0.id, .timedOut, at: now) } ?? .nothing
    }

    private mutating func stopHead(_ reason: StopReason, at now: Instant) -> Action {
        let id = inFlight[0].id
        // An earlier cancel request is still in progress and might affect this unit, or several units are in flight.
        guard inFlight.count == 1, cancel == nil else { return .close(id, reason) }
        cancel = Cancel(unit: id, reason: reason, deadline: now + Self.cancelGrace)
        return .cancelOnServer(id, reason)
    }

    private mutating func endCancelIfDone() {
        if let cancel, cancel.unitHasEnded, cancel.requestHasReturned { self.cancel = nil }
    }
}
