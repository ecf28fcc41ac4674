import Breakwater

/// How deliveries to endpoints ended since the last report.
///
/// Only changes matter: when a delivery last succeeded, and whether one failed after that. Failures are reported at once.
/// So is a success of an endpoint that is known to fail. Other successes are reported together, once a minute: a delivery of
/// another worker may have failed shortly before, and the failing must end then.
package struct EndpointCalls: Sendable {
    /// The most endpoints with failures in one report, and the most with successes only. Failures of further endpoints
    /// are left out; their next failures are reported. A further success makes all successes due.
    static let most = 10_000
    /// The time between reports of successes.
    static let interval = Duration.seconds(60)

    /// The calls of one kind to one endpoint.
    package struct Call: Encodable, Equatable, Sendable {
        var kind: String
        var name: String
        /// How many seconds ago the last delivery succeeded; nil if none did.
        var succeededAgo: Double?
        /// The message of the last delivery, if it failed.
        var failure: String?
        /// How many seconds ago the first delivery failed after the success.
        var failedAgo: Double?
        /// Whether the last failure was a 410 (Gone).
        var isGone = false

        private enum CodingKeys: String, CodingKey {
            case kind, name, failure
            case succeededAgo = "succeeded_ago"
            case failedAgo = "failed_ago"
            case isGone = "is_gone"
        }
    }

    /// Calls that were taken to be reported.
    struct Batch: Sendable {
        fileprivate var ends: [Key: Ends] = [:]
        fileprivate var takenAt: ContinuousClock.Instant

        var isEmpty: Bool { ends.isEmpty }

        var calls: [Call] {
            ends.map { key, ends in
                Call(
                    kind: key.kind,
                    name: key.name,
                    succeededAgo: ends.succeededAt.map { (takenAt - $0).inSeconds },
                    failure: ends.failure,
                    failedAgo: ends.failedAt.map { (takenAt - $0).inSeconds },
                    isGone: ends.isGone
                )
            }
        }
    }

    fileprivate struct Key: Hashable {
        var kind: String
        var name: String
    }

    fileprivate struct Ends {
        var succeededAt: ContinuousClock.Instant?
        var failure: String?
        var failedAt: ContinuousClock.Instant?
        var isGone = false
    }

    /// Calls that are reported with the next report.
    private var urgent: [Key: Ends] = [:]
    /// The last successes of endpoints that are not known to fail.
    private var successes: [Key: ContinuousClock.Instant] = [:]
    /// When these are reported.
    private var successesDue: ContinuousClock.Instant?

    /// Whether there is something to report now.
    func isDue(at now: ContinuousClock.Instant = .now) -> Bool { !urgent.isEmpty || areSuccessesDue(at: now) }

    private func areSuccessesDue(at now: ContinuousClock.Instant) -> Bool {
        successesDue.map { $0 <= now } ?? false || successes.count >= Self.most
    }

    /// Adds a delivery that succeeded.
    ///
    /// - Parameters:
    ///   - wasFailing: Whether the endpoint was failing before, as far as the caller knows.
    ///   - now: The time at which it succeeded.
    mutating func succeeded(_ kind: String, _ name: String, wasFailing: Bool, at now: ContinuousClock.Instant = .now) {
        let key = Key(kind: kind, name: name)
        if urgent[key] != nil || (wasFailing && urgent.count < Self.most) {
            urgent[key] = Ends(succeededAt: now)
            successes[key] = nil
        } else if successes[key] != nil || successes.count < Self.most {
            successes[key] = now
            successesDue = successesDue ?? now + Self.interval
        }
    }

    /// Adds a delivery that failed.
    mutating func failed(
        _ kind: String,
        _ name: String,
        _ message: String,
        isGone: Bool,
        at now: ContinuousClock.Instant = .now
    ) {
        let key = Key(kind: kind, name: name)
        guard urgent[key] != nil || urgent.count < Self.most else { return }
        var ends = urgent[key] ?? Ends(succeededAt: successes.removeValue(forKey: key))
        ends.failure = message
        ends.failedAt = ends.failedAt ?? now
        ends.isGone = isGone
        urgent[key] = ends
    }

    /// Removes and returns the calls that are due.
    ///
    /// - Parameter isLast: Whether all are due, because no report follows.
    mutating func take(at now: ContinuousClock.Instant = .now, isLast: Bool = false) -> Batch {
        var batch = Batch(ends: urgent, takenAt: now)
        urgent = [:]
        if isLast || areSuccessesDue(at: now) {
            batch.ends.merge(successes.mapValues { Ends(succeededAt: $0) }) { first, _ in first }
            successes = [:]
            successesDue = nil
        }
        return batch
    }

    /// Takes calls back that could not be reported.
    mutating func putBack(_ batch: Batch) {
        for (key, earlier) in batch.ends {
            guard let later = urgent[key] else {
                // A later success counts instead.
                if successes[key] == nil, urgent.count < Self.most { urgent[key] = earlier }
                continue
            }
            guard later.succeededAt == nil else { continue }
            urgent[key]?.succeededAt = earlier.succeededAt
            urgent[key]?.failedAt = earlier.failedAt ?? later.failedAt
        }
    }
}
