package import Libpq

/// A run that has ended and waits to be settled.
package struct FinishedRun: Sendable {
    package var id: Int64
    package var lease: Int64
    package var generation: Int64
    package var isProbe: Bool
    /// The number of this counted run of its job.
    package var attempt: Int
    /// The location of the job's row in its table, according to the claim.
    package var tuple: TupleID
    /// How long the handler ran, and how long the job had been ready before, for metrics.
    package var times = Times()
    private let origin: Job.Origin
    /// The ending; nil for a plain success without anything to keep, which is the usual case.
    private var notableEnding: Box?

    private final class Box: Sendable {
        let ending: Ending

        init(_ ending: Ending) { self.ending = ending }
    }

    /// - Parameters:
    ///   - job: The job that ran.
    ///   - ending: The ending to record; nil for a plain success.
    package init(_ job: Job, _ ending: Ending?) {
        id = job.id
        lease = job.lease
        generation = job.generation
        isProbe = job.isProbe
        attempt = job.attempt
        tuple = job.tuple
        origin = job.origin
        notableEnding = ending.map { Box($0) }
    }

    package var queue: String { origin.texts.queue }
    package var kind: String { origin.texts.kind }
    package var circuitKey: String { origin.texts.circuitKey }

    package var ending: Ending {
        get { notableEnding?.ending ?? .plainSuccess }
        set { notableEnding = Box(newValue) }
    }

    /// Whether the run was a success without anything to keep.
    var isPlainSuccess: Bool { notableEnding == nil }
    var isSuccess: Bool { notableEnding?.ending.isSuccess ?? true }

    /// Whether the run shares its texts with another one because both belong to the same claim, lane and circuit. This
    /// may be false even for two such runs.
    func sharesTexts(with other: FinishedRun) -> Bool { origin === other.origin }

    /// The times of a run, in nanoseconds.
    package struct Times: Sendable {
        package var run: Int64 = 0
        /// How long the job had been ready before the run.
        package var wait: Int64 = 0

        package init() {}

        init(_ job: Job, startedAt start: MonotonicClock.Instant, _ duration: Duration) {
            run = duration.nanoseconds
            wait = Int64(max(0, min(job.waited, 1e9)) * 1e9) + (start - job.claimedAt).nanoseconds
        }
    }

    /// The effect on its circuit of a run that did not succeed.
    package enum Effect: String, Sendable {
        case failed, tripped, ignored
    }

    /// The recorded form of an outcome, after retry rules and delays are applied.
    package struct Ending: Sendable, Equatable {
        /// The class of the outcome.
        package var outcomeClass: OutcomeClass
        package var failure: JobFailure?
        package var result: String?
        /// The delay until the next run.
        package var delay: Duration = .zero
        /// The effect on the circuit of a run that did not succeed.
        package var effect = Effect.ignored
        /// Whether the run took longer than its handler's circuit allows.
        package var isSlow = false
        /// How long the dependency asked to wait, if the circuit honours that.
        package var retryAfter: Duration?
        /// What a run that did not succeed had reported and is not stored yet.
        package var report: RunReport?

        package var isSuccess: Bool { outcomeClass == .succeeded }
        /// Whether the circuit counts it as a failure.
        package var isFailedCall: Bool { effect != .ignored }

        /// A success without anything to keep.
        static let plainSuccess = Ending(outcomeClass: .succeeded)

        package static let released = Ending(outcomeClass: .released)
    }
}

extension [FinishedRun] {
    /// The newest run of each job. A job that was lost and claimed again may have two runs here. Only that with the
    /// newest lease can still count, and a settle must name each job once.
    var newestOfEachJob: [FinishedRun] {
        var names = Set<Int64>(minimumCapacity: count)
        for run in self { names.insert(run.id) }
        guard names.count < count else { return self }
        names = []
        return reversed().filter { names.insert($0.id).inserted }
    }
}
