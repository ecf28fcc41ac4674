/// How a ``CircuitBreaker`` counts an error that a call threw.
public enum CallJudgement: Sendable, Equatable {
    /// The dependency failed. `retryAfter` is how long the dependency asked to wait. It is used only if the policy's
    /// ``CircuitPolicy/honoursRetryAfter`` is set.
    case failed(retryAfter: Duration? = nil)
    /// The dependency failed in a way that opens the circuit at once.
    case trips(retryAfter: Duration? = nil)
    /// The error says nothing about the dependency, for example because the request was invalid.
    case ignored
}

extension CircuitPolicy {
    /// The default judgement of an error. ``ignoreOn`` and ``tripOn`` decide; an error that matches neither is a
    /// failure.
    ///
    /// The rules match the name of a ``JobFailure``, and the name of the type of any other error.
    ///
    /// - Parameter error: The error that a call threw.
    /// - Returns: How the circuit counts the error.
    public func judge(_ error: any Error) -> CallJudgement {
        let failure = error as? JobFailure ?? JobFailure("\(type(of: error))", "")
        if failure.matches(any: ignoreOn) { return .ignored }
        if failure.matches(any: tripOn) { return .trips() }
        return .failed()
    }
}
