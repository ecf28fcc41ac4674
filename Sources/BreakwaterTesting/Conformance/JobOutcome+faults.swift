import Breakwater

extension JobOutcome {
    /// The rules for all outcomes that this one breaks.
    var faults: [String] {
        var faults: [String] = []
        if case .succeeded(let result?) = self, !JobResult.isStorable(result) {
            faults.append("the result is not one JSON value that Postgres can store: \(result.excerpt)")
        }
        if let failure {
            if !failure.name.isName {
                faults.append(
                    "the failure's name '\(failure.name.excerpt)' has not 1 to 200 bytes, or has control characters"
                )
            }
            if failure.message.isEmpty { faults.append("the failure '\(failure.name.excerpt)' has no message") }
            let length = failure.message.unicodeScalars.count
            if length > JobFailure.longestMessage {
                faults.append(
                    "the message of the failure '\(failure.name.excerpt)' has \(length) characters, and "
                        + "\(JobFailure.longestMessage) are kept"
                )
            }
        }
        if let delay {
            if delay < .zero { faults.append("the delay is negative: \(delay)") }
            if delay > SettingLimits.longest { faults.append("the delay is longer than ten years: \(delay)") }
            if case .snoozed(.zero) = self {
                faults.append("it is snoozed for no time, so the job would run again at once, and forever")
            }
        }
        return faults
    }

    /// The delay that it asks for.
    private var delay: Duration? { if case .snoozed(let delay) = self { delay } else { retryAfter } }

    /// What is not as a scenario claims; nil if all is.
    func difference(from expected: JobOutcome) -> String? {
        guard outcomeClass == expected.outcomeClass else {
            return "it ended as \(summary), not as \(expected.outcomeClass.rawValue)"
        }
        if case .succeeded(let result) = self, case .succeeded(let wanted) = expected,
            !JSONTokens.areEqual(result, wanted)
        {
            return "the result is \(result.text), not \(wanted.text)"
        }
        if let wanted = expected.failure?.name, !wanted.isEmpty, let name = failure?.name, name != wanted {
            return "the failure is named '\(name.excerpt)', not '\(wanted)'"
        }
        guard delay == expected.delay else { return "the delay is \(delay.text), not \(expected.delay.text)" }
        return nil
    }

    /// The class, and the failure if there is one.
    var summary: String {
        outcomeClass.rawValue + (failure.map { " (\($0.name.excerpt): \($0.message.excerpt))" } ?? "")
    }
}

extension ObservedRun.End: CustomStringConvertible {
    var description: String {
        switch self {
        case .outcome(let outcome): outcome.summary
        case .cancellation: "it threw CancellationError"
        case .error(let error): "it threw \(error)"
        }
    }
}
