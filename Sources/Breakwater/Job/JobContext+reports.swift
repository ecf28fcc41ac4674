import Foundation

extension JobContext {
    /// Reports how much of the work is done, and what is being done, for people who look at the job.
    ///
    /// It costs next to nothing, so it may be called often. The worker stores the latest values together with its
    /// heartbeat, at most every 5 seconds (or a fifth of the lease, if that is shorter).
    ///
    /// - Parameters:
    ///   - fraction: How much of the work is done, from 0 to 1. A value outside is taken as the nearer end. Defaults to
    ///     the one reported before.
    ///   - note: What is being done, such as `page 3 of 10`. At most 200 characters are kept, and control characters
    ///     become spaces. Defaults to the one reported before.
    public func report(fraction: Double? = nil, note: String? = nil) {
        reports?.progress(fraction: fraction, note: note)
    }

    /// Saves a state from which a later run of the job can go on, instead of beginning anew.
    ///
    /// The worker stores the latest one with its heartbeat, and with the end of a run that did not succeed. A run whose
    /// worker is lost goes on from the last stored one, so do the work in steps that may be repeated. The checkpoint is
    /// kept until the job succeeds or its dead letter is purged.
    ///
    /// - Parameter state: The state, which is encoded as JSON of at most 65,536 bytes.
    /// - Throws: The error of the encoding; ``JobFailure`` `checkpoint.tooLarge` if the JSON is larger, or
    ///   `checkpoint.invalid` if it is nested 512 deep or more. The last checkpoint then stays.
    public func saveCheckpoint(_ state: some Encodable) throws {
        let json = try JSONEncoder().encode(state)
        try reports?.checkpoint(String(decoding: json, as: UTF8.self))
    }

    /// The last checkpoint of an earlier run of the job; nil if there is none.
    ///
    /// - Parameter type: The type of the state.
    /// - Throws: `DecodingError` if the checkpoint has another form. Use `try?` to begin anew then.
    public func checkpoint<State: Decodable>(as type: State.Type) throws -> State? {
        guard let checkpoint = job.checkpoint else { return nil }
        return try JSONDecoder().decode(type, from: Data(checkpoint.utf8))
    }
}
