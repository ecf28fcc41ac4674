/// The class of an outcome, with the word that the database, metrics, traces and logs use for it.
package enum OutcomeClass: String, Sendable, CaseIterable {
    case succeeded, failed, unavailable, throttled, unable, discarded, snoozed, released
}

extension JobOutcome {
    var isSuccess: Bool { if case .succeeded = self { true } else { false } }

    /// The outcome's class.
    package var outcomeClass: OutcomeClass {
        switch self {
        case .succeeded: .succeeded
        case .failed: .failed
        case .unavailable: .unavailable
        case .throttled: .throttled
        case .unable: .unable
        case .discarded: .discarded
        case .snoozed: .snoozed
        case .released: .released
        }
    }

    /// The failure, if there is one.
    package var failure: JobFailure? {
        switch self {
        case .failed(let failure), .unavailable(let failure, _), .throttled(let failure, _), .unable(let failure),
            .discarded(let failure):
            failure
        case .succeeded, .snoozed, .released:
            nil
        }
    }

    /// How long to wait before the next call, if the dependency said so.
    package var retryAfter: Duration? {
        switch self {
        case .unavailable(_, let retryAfter): retryAfter
        case .throttled(_, let retryAfter): retryAfter
        case .succeeded, .failed, .unable, .discarded, .snoozed, .released: nil
        }
    }
}
