public import struct Foundation.Date
package import Libpq

/// One claimed job, as its handler sees it.
public struct Job: Sendable, Identifiable {
    /// The job's row in `breakwater.job`. It stays the same through retries and redrives.
    public var id: Int64
    /// The group of jobs it was enqueued to.
    public var queue: String {
        get { origin.texts.queue }
        set { change(\.queue, to: newValue) }
    }
    /// The name of the handler that runs it, such as `email.send`.
    public var kind: String {
        get { origin.texts.kind }
        set { change(\.kind, to: newValue) }
    }
    /// 0 (first) to 9 (last); 5 unless the enqueuer said otherwise.
    public var priority: Int
    /// The payload: one JSON value as text.
    public var payload: String {
        get {
            switch payloadSource {
            case .text(let text): text
            // The server sends valid UTF-8 alone, since the session asks for it.
            case .answer(let slice): slice.text ?? "{}"
            }
        }
        set { payloadSource = .text(newValue) }
    }
    /// Which counted run this is, starting from 1.
    public var attempt: Int
    /// How many earlier runs failed as probes and were not counted, since the dependency was down.
    var handedBack = 0
    /// How many counted runs the job may have: its own limit, else its handler's.
    public var maxAttempts: Int
    /// When it was enqueued, by the database's clock.
    public var enqueuedAt: Date
    /// The W3C trace context its enqueuer gave, if any.
    public var traceparent: String? {
        get { origin.texts.traceparent }
        set { change(\.traceparent, to: newValue) }
    }
    /// What tracing systems added to it, in the form of the W3C's `tracestate`, if anything.
    public var tracestate: String? {
        get { origin.texts.tracestate }
        set { change(\.tracestate, to: newValue) }
    }
    /// Whether a half-open circuit let it through to find out if its dependency works again.
    public var isProbe: Bool

    /// The texts of a job except its payload. Jobs of one claim mostly share them, and jobs are copied a lot, so each
    /// job has one reference instead of its own texts.
    package struct Texts: Sendable {
        var queue: String
        var kind: String
        /// The key of its circuit: empty for the kind's own.
        var circuitKey = ""
        var traceparent: String?
        var tracestate: String?
    }

    package final class Origin: Sendable {
        let texts: Texts

        init(_ texts: Texts) { self.texts = texts }
    }

    package var origin: Origin

    /// Where the payload is.
    package enum PayloadSource: Sendable {
        case text(String)
        /// In a claim's answer until the job runs: the run decodes it, so that the claim does not spend time on it.
        case answer(TextSlice)

        /// How many bytes of UTF-8 it has.
        var byteCount: Int {
            switch self {
            case .text(let text): text.utf8.count
            case .answer(let slice): slice.byteCount
            }
        }
    }

    package var payloadSource: PayloadSource

    /// Where the claim left the job in its table.
    package var tuple = TupleID()
    /// The number of the claim that gave this job to this worker. Only the holder of the newest lease may settle.
    package var lease: Int64
    /// The generation of the kind's circuit when the job was claimed.
    package var generation: Int64
    /// The key of its circuit: empty for the kind's own.
    package var circuitKey: String {
        get { origin.texts.circuitKey }
        set { change(\.circuitKey, to: newValue) }
    }
    /// When the claim was answered, and for how many seconds the job had been ready by then.
    package var claimedAt = MonotonicClock.Instant.now
    package var waited = 0.0

    /// A text that is the same for every run of this job, for receivers that drop repeats.
    public var idempotencyKey: String { "breakwater-\(id)" }

    /// A job made by hand, for the tests of handlers.
    ///
    /// - Parameters:
    ///   - id: The job's number. Defaults to 1.
    ///   - queue: Defaults to `default`.
    ///   - kind: The handler's name.
    ///   - priority: 0 to 9. Defaults to 5.
    ///   - payload: JSON text. Defaults to `{}`.
    ///   - attempt: Starting from 1. Defaults to 1.
    ///   - maxAttempts: Defaults to 20.
    ///   - enqueuedAt: Defaults to now.
    ///   - traceparent: Defaults to none.
    ///   - tracestate: Defaults to none.
    ///   - isProbe: Defaults to false.
    public init(
        id: Int64 = 1,
        queue: String = "default",
        kind: String,
        priority: Int = 5,
        payload: String = "{}",
        attempt: Int = 1,
        maxAttempts: Int = 20,
        enqueuedAt: Date = Date(),
        traceparent: String? = nil,
        tracestate: String? = nil,
        isProbe: Bool = false
    ) {
        self.id = id
        origin = Origin(Texts(queue: queue, kind: kind, traceparent: traceparent, tracestate: tracestate))
        self.priority = priority
        payloadSource = .text(payload)
        self.attempt = attempt
        self.maxAttempts = maxAttempts
        self.enqueuedAt = enqueuedAt
        self.isProbe = isProbe
        lease = 0
        generation = 0
    }

    private mutating func change<Value>(_ text: WritableKeyPath<Texts, Value>, to value: Value) {
        var texts = origin.texts
        texts[keyPath: text] = value
        origin = Origin(texts)
    }

    /// Whether it is of the same claim and kind as another.
    func isLike(_ other: Job) -> Bool { lease == other.lease && (origin === other.origin || kind == other.kind) }

    /// Reads the payload out of the claim's answer, so that one long run does not keep the answer with all its jobs.
    mutating func takePayload() { payload = payload }
}
