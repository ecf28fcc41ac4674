import Libpq

extension ClaimLoop {
    /// Inserts no longer wake this worker; of what it attended, others are told.
    mutating func stayAwake(on connection: isolated Connection, as worker: Int64) async throws(PostgresError) {
        try await connection.call(Sleep(worker: worker, kinds: []), timeout: engine.timeout)
        sleepsAs = nil
        attended = []
    }

    /// While jobs of some kind come fast, gathers them for a moment instead of being told of each.
    ///
    /// - Returns: Whether to look for them again.
    mutating func attend(on connection: isolated Connection) async throws(PostgresError) -> Bool {
        guard engine.configuration.listens else { return false }
        let now = Moment.now
        attention.review(at: now)
        let (worker, isFull) = engine.withState { state in
            (
                state.worker,
                state.dispatcher.phase == .draining || !state.solitude.isSociable
                    || state.dispatcher.isFull(forAnyOf: attention.kinds)
            )
        }
        guard !attention.kinds.isEmpty, !isFull else {
            if !attended.isEmpty {
                if isFull { try await stayAwake(on: connection, as: worker) }
                // What came while nobody was told of it: look once more, and then go to sleep.
                isWide = true
                isExhausted = false
                if sleepsAs != nil {
                    try await sleep(on: connection, as: worker)
                    return true
                }
            }
            return false
        }
        if attended != attention.kinds || sleepsAs != worker || now >= nextAttend {
            let kinds = engine.configuration.handlers.map(\.kind)
            try await connection.call(
                Attend(
                    worker: worker,
                    queues: engine.configuration.queues,
                    attended: attention.kinds.sorted(),
                    kinds: kinds.filter { !attention.kinds.contains($0) },
                    term: Attention.term
                ),
                timeout: engine.timeout
            )
            sleepsAs = worker
            attended = attention.kinds
            nextAttend = now + Attention.term / 2
        }
        try? await Task.sleep(for: Attention.interval)
        isExhausted = false
        // Other lanes.
        if .now >= lastLateLook + .seconds(1) { isWide = true }
        return true
    }

    /// Asks to be woken by inserts. What was inserted before that woke nobody: a look must follow.
    mutating func sleep(on connection: isolated Connection, as worker: Int64) async throws(PostgresError) {
        try await connection.call(
            Sleep(worker: worker, kinds: engine.configuration.handlers.map(\.kind)),
            timeout: engine.timeout
        )
        sleepsAs = worker
        attended = []
        isExhausted = false
        isWide = true
    }
}
