/// What an error that a call threw means to its ``CircuitBreaker``.
public enum CallJudgement: Sendable, Equatable {
    /// The dependency failed. `retryAfter` is how long it asked to be left alone; it counts only where the policy's
    /// ``CircuitPolicy/honoursRetryAfter`` says so.
    case failed(retryAfter: Duration? = nil)
    /// The dependency failed in a way that opens the circuit at once.
    case trips(retryAfter: Duration? = nil)
    /// The error says nothing about the dependency: a bad request, for example.
    case ignored
}

extension CircuitPolicy {
    /// The default judgement of an error: by ``ignoreOn`` and ``tripOn``, and as failed if neither matches.
    ///
    /// The name that the rules see is a ``JobFailure``'s own, and for any other error that of its type.
    ///
    /// - Parameter error: What a call threw.
    /// - Returns: What it means to the circuit.
    public func judge(_ error: any Error) -> CallJudgement {
        let failure = error as? JobFailure ?? JobFailure("\(type(of: error))", "")
        if failure.matches(any: ignoreOn) { return .ignored }
        if failure.matches(any: tripOn) { return .trips() }
        return .failed()
    }
}
