extension JobOutcome {
    /// The outcome of a run that threw an error.
    package init(of error: any Error) {
        switch error {
        case let failure as JobFailure: self = .failed(failure)
        case let refusal as CircuitOpenError: self = refusal.outcome
        default:
            if let failure = JobFailure(limitIn: error) {
                self = .unable(failure)
            } else {
                self = .failed(JobFailure("\(type(of: error))", "\(error)"))
            }
        }
    }
}
