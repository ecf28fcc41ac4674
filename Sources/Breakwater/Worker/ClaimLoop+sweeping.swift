import Libpq
import Logging

extension ClaimLoop {
    /// Looks for jobs that a claim from the cursors would not find, and when there are none, asks to be woken.
    ///
    /// - Returns: Whether to claim, or to look again, at once.
    mutating func sweep(on connection: isolated Connection) async throws(PostgresError) -> Bool {
        let worker = engine.withState(\.worker)
        let (hasNews, hasReady) = try await look(on: connection)
        guard !hasNews else { return true }
        // Ready jobs that this worker did not get, or inserts that nobody will tell it of: it looks again soon.
        let isAwake = engine.configuration.listens && sleepsAs != worker && attended.isEmpty
        if isAwake || hasReady { nextPoll = min(nextPoll, lastSweep + Self.longestBlindness) }
        guard isAwake, isExhausted, claimsWithJobs == 0 else { return false }
        try await sleep(on: connection, as: worker)
        return true
    }

    /// Sweeps, and tells others of floors that have risen.
    ///
    /// - Returns: Whether the next claim, or the next sweep, can find jobs that the last could not, and whether any are ready.
    private mutating func look(
        on connection: isolated Connection
    ) async throws(PostgresError) -> (hasNews: Bool, hasReady: Bool) {
        let start = Moment.now
        let (sweep, holders) = engine.withState { state in
            let lanes = state.lanes.all
            return (Sweep(lanes: lanes, floors: lanes.map { state.lanes.floor(of: $0) }), state.lanes.notedHolders)
        }
        let horizon: Horizon.Output?
        let swept: Sweep.Output
        if let holders {
            (horizon, swept) = try await connection.call(Horizon(holders: holders), sweep, timeout: engine.timeout)
        } else {
            (horizon, swept) = (nil, try await connection.call(sweep, timeout: engine.timeout))
        }
        let end = Moment.now
        engine.metrics.record(.sweep, since: start)
        lastSweep = end
        nextSweep = end + (end - start) * Self.sweepPause
        isSweepOwed = false

        if engine.withState({ $0.lanes.hasForgotten(for: swept.source) }) {
            engine.logger.notice("another server answers than before: looks for jobs from the beginning of each lane")
            (sleepsAs, attended, isSweepOwed) = (nil, [], true)
            return (true, !swept.found.isEmpty)
        }
        let hasNews = engine.withState { $0.lanes.swept(swept.found, horizon: horizon, at: end) }
        if hasNews { isExhausted = false }
        try await noteFloors(risenBy: Self.floorStep, on: connection)
        return (hasNews, !swept.found.isEmpty)
    }

    private func noteFloors(risenBy step: Int64, on connection: isolated Connection) async throws(PostgresError) {
        let floors = engine.withState { $0.lanes.takeFloorsToNote(risenBy: step) }
        guard !floors.isEmpty else { return }
        try await connection.call(NoteFloors(floors: floors), timeout: engine.timeout)
    }

    /// The last thing it does: whoever comes next begins where it ends.
    mutating func leaveFloors(on connection: isolated Connection) async {
        do {
            // It takes two sweeps to prove a floor.
            for _ in 1...2 where engine.withState({ $0.lanes.notedHolders != nil }) {
                _ = try await look(on: connection)
            }
            try await noteFloors(risenBy: 1, on: connection)
        } catch {
            engine.loggers.database.info("left no floors behind", metadata: ["error": "\(error)"])
        }
    }
}
