public import Breakwater

extension PluginConformance {
    /// A behaviour of a plugin, and a job that provokes it.
    public struct Scenario: Sendable, CustomStringConvertible {
        /// What a run of the job does.
        enum Behaviour: Sendable {
            /// It ends with this outcome. The message of a failure does not matter, nor does an empty name.
            case ends(JobOutcome)
            /// It ends in any way that follows the rules.
            case answers
            case waits
            case reports(RunReports.Values)
            /// It succeeds with a result. At most this many bytes of it are kept.
            case givesTooMuch(Int)
            case logs(String)
            case echoes
            case describes(withCheckpoint: Bool)
        }

        var job: Job
        var behaviour: Behaviour
        private var verb: String

        private init(_ verb: String, _ job: Job, _ behaviour: Behaviour) {
            self.verb = verb
            self.job = job
            self.behaviour = behaviour
        }

        /// What it does, and the beginning of its job's payload.
        public var description: String { "\(verb) \(job.payload.excerpt)" }

        // MARK: Outcomes

        /// The run succeeds.
        ///
        /// - Parameters:
        ///   - job: The job.
        ///   - result: The result as JSON; it is compared as JSON. Defaults to no result.
        public static func succeeds(_ job: Job, result: String? = nil) -> Self {
            Self("succeeds", job, .ends(.succeeded(result: result)))
        }

        /// The run fails, and the job is to be retried.
        ///
        /// - Parameters:
        ///   - job: The job.
        ///   - name: The failure's name. Defaults to any.
        public static func fails(_ job: Job, name: String = "") -> Self {
            Self("fails", job, .ends(.failed(JobFailure(name, ""))))
        }

        /// What the job depends on is unavailable.
        ///
        /// - Parameters:
        ///   - job: The job.
        ///   - name: The failure's name. Defaults to any.
        ///   - retryAfter: The delay that the dependency asks for. Defaults to none.
        public static func unavailable(_ job: Job, name: String = "", retryAfter: Duration? = nil) -> Self {
            Self("unavailable", job, .ends(.unavailable(JobFailure(name, ""), retryAfter: retryAfter)))
        }

        /// What the job depends on limits the rate.
        ///
        /// - Parameters:
        ///   - job: The job.
        ///   - name: The failure's name. Defaults to any.
        ///   - retryAfter: The delay that the dependency asks for. Defaults to zero, which means that it gave none.
        public static func throttled(_ job: Job, name: String = "", retryAfter: Duration = .zero) -> Self {
            Self("throttled", job, .ends(.throttled(JobFailure(name, ""), retryAfter: retryAfter)))
        }

        /// The worker lacks something that the job needs.
        ///
        /// - Parameters:
        ///   - job: The job.
        ///   - name: The failure's name. Defaults to any.
        public static func unable(_ job: Job, name: String = "") -> Self {
            Self("unable", job, .ends(.unable(JobFailure(name, ""))))
        }

        /// The job can never succeed.
        ///
        /// - Parameters:
        ///   - job: The job.
        ///   - name: The failure's name. Defaults to any.
        public static func discards(_ job: Job, name: String = "") -> Self {
            Self("discards", job, .ends(.discarded(JobFailure(name, ""))))
        }

        /// The job is to run again later.
        ///
        /// - Parameters:
        ///   - job: The job.
        ///   - delay: The delay.
        public static func snoozes(_ job: Job, for delay: Duration) -> Self {
            Self("snoozes", job, .ends(.snoozed(delay)))
        }

        /// The run gives the job back.
        ///
        /// - Parameter job: The job.
        public static func releases(_ job: Job) -> Self { Self("releases", job, .ends(.released)) }

        /// The run ends with any outcome. For handlers that answer something broken, such as text that is not UTF-8.
        ///
        /// - Parameter job: The job.
        public static func answers(_ job: Job) -> Self { Self("answers", job, .answers) }

        // MARK: Other behaviour

        /// The run goes on until it is cancelled, for ten minutes or longer.
        ///
        /// It is cancelled alone, before it begins, at its deadline, and beside another that goes on. If the run reports
        /// progress once it is under way, the suite waits for that; otherwise for half a second.
        ///
        /// - Parameter job: The job.
        public static func waits(_ job: Job) -> Self { Self("waits", job, .waits) }

        /// The run reports progress or a checkpoint, and succeeds.
        ///
        /// - Parameters:
        ///   - job: The job.
        ///   - fraction: The last reported fraction. Defaults to none.
        ///   - note: The last reported note. Defaults to none.
        ///   - checkpoint: The last checkpoint as JSON; it is compared as JSON. Defaults to none.
        public static func reports(
            _ job: Job,
            fraction: Double? = nil,
            note: String? = nil,
            checkpoint: String? = nil
        ) -> Self {
            Self("reports", job, .reports(RunReports.Values(fraction: fraction, note: note, checkpoint: checkpoint)))
        }

        /// The handler gives a longer text than is kept of a result, and the run succeeds with its beginning.
        ///
        /// - Parameters:
        ///   - job: The job.
        ///   - bytes: How many bytes of the handler's text are kept. Its JSON string may be longer: six times as long, and
        ///     two quotes.
        public static func givesTooMuch(_ job: Job, keeping bytes: Int) -> Self {
            Self("gives too much", job, .givesTooMuch(bytes))
        }

        /// The run logs a line that contains this text, with the job's id as the metadata `job`.
        ///
        /// - Parameters:
        ///   - job: The job.
        ///   - text: The text.
        public static func logs(_ job: Job, _ text: String) -> Self { Self("logs", job, .logs(text)) }

        /// The run succeeds with its payload as the result, whatever the payload is.
        ///
        /// The suite replaces the job's payload: by hostile texts, unusual JSON, and a number for each of several jobs at
        /// once.
        ///
        /// - Parameter job: The job.
        public static func echoes(_ job: Job) -> Self { Self("echoes", job, .echoes) }

        /// The run succeeds with what the handler knows of the job: a JSON object with `id`, `kind`, `queue`, `attempt`,
        /// `max_attempts`, `deadline`, `idempotency_key`, `traceparent`, `tracestate` and `checkpoint`.
        ///
        /// The suite replaces all of these but the kind. Numbers may be given as texts.
        ///
        /// - Parameters:
        ///   - job: The job.
        ///   - withCheckpoint: Whether the handler gets the checkpoint of an earlier run. Defaults to true.
        public static func describesJob(_ job: Job, withCheckpoint: Bool = true) -> Self {
            Self("describes its job", job, .describes(withCheckpoint: withCheckpoint))
        }
    }
}

extension String {
    /// The beginning of the text on one line, for a message.
    var excerpt: String {
        let line = String(String.UnicodeScalarView(unicodeScalars.prefix(80).map { $0.isControl ? " " : $0 }))
        return unicodeScalars.count > 80 ? line + "…" : line
    }
}
