package import Libpq

/// A run that has ended and waits to be settled.
package struct FinishedRun: Sendable {
    package var id: Int64
    package var lease: Int64
    package var generation: Int64
    package var isProbe: Bool
    /// Which counted run of its job it was.
    package var attempt: Int
    /// Where the claim left the job in its table.
    package var tuple: TupleID
    /// How long its handler ran, and how long the job was ready before; for metrics.
    package var times = Times()
    private let origin: Job.Origin
    /// Nil for a success with nothing to keep of it, which is how nearly all runs end.
    private var notableEnding: Box?

    private final class Box: Sendable {
        let ending: Ending

        init(_ ending: Ending) { self.ending = ending }
    }

    /// - Parameters:
    ///   - job: The job that ran.
    ///   - ending: What is recorded of its outcome; nil for a success with nothing to keep of it.
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

    /// Whether it ended in a success with nothing to keep of it.
    var isPlainSuccess: Bool { notableEnding == nil }
    var isSuccess: Bool { notableEnding?.ending.isSuccess ?? true }

    /// Whether it shares its texts with another run because both belong to the same claim, lane and circuit. It may be
    /// false even for two such runs.
    func sharesTexts(with other: FinishedRun) -> Bool { origin === other.origin }

    /// How long a run took, in nanoseconds.
    package struct Times: Sendable {
        package var run: Int64 = 0
        /// How long the job was ready before the run.
        package var wait: Int64 = 0

        package init() {}

        init(_ job: Job, startedAt start: MonotonicClock.Instant, _ duration: Duration) {
            run = duration.nanoseconds
            wait = Int64(max(0, min(job.waited, 1e9)) * 1e9) + (start - job.claimedAt).nanoseconds
        }
    }

    /// What a run that did not succeed means to its circuit.
    package enum Effect: String, Sendable {
        case failed, tripped, ignored
    }

    /// What is recorded of an outcome, once retry rules and delays are applied.
    package struct Ending: Sendable, Equatable {
        /// The class of the outcome: `succeeded`, `failed`, ….
        package var className: String
        package var failure: JobFailure?
        package var result: String?
        /// How long until the next run.
        package var delay: Duration = .zero
        /// What the circuit learns of a run that did not succeed.
        package var effect = Effect.ignored
        /// Whether the run took longer than its handler's circuit allows.
        package var isSlow = false
        /// How long the dependency asked to be left alone, if the circuit honours that.
        package var retryAfter: Duration?

        package var isSuccess: Bool { className == "succeeded" }
        /// Whether the circuit counts it as a failure.
        package var isFailedCall: Bool { effect != .ignored }

        /// A success with nothing to keep of it.
        static let plainSuccess = Ending(className: "succeeded")

        package static let released = Ending(className: "released")
    }
}

extension [FinishedRun] {
    /// A job that was lost and claimed again may be here twice: only its newest lease can still matter, and a settle
    /// names each job once.
    var newestOfEachJob: [FinishedRun] {
        var names = Set<Int64>(minimumCapacity: count)
        for run in self { names.insert(run.id) }
        guard names.count < count else { return self }
        names = []
        return reversed().filter { names.insert($0.id).inserted }
    }
}
