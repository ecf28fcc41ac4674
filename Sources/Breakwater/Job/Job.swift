public import struct Foundation.Date
package import Libpq

/// One claimed job, as it is passed to its handler.
public struct Job: Sendable, Identifiable {
    /// The job's row in `breakwater.job`. It stays the same through retries and redrives.
    public var id: Int64
    /// The queue in which the job was enqueued.
    public var queue: String {
        get { origin.texts.queue }
        set { change(\.queue, to: newValue) }
    }
    /// The name of the handler that runs the job, such as `email.send`.
    public var kind: String {
        get { origin.texts.kind }
        set { change(\.kind, to: newValue) }
    }
    /// The priority from 0 (first) to 9 (last); 5 by default.
    public var priority: Int
    /// The payload: one JSON value as text.
    public var payload: String {
        get {
            switch payloadSource {
            case .text(let text): text
            // A worker makes it a text before the job runs, and fails the run if that is impossible.
            case .answer(let slice): slice.text ?? ""
            }
        }
        set { payloadSource = .text(newValue) }
    }
    /// The number of this counted run, starting from 1.
    public var attempt: Int
    /// How many earlier runs failed as probes, and were not counted because the dependency was unavailable.
    var handedBack = 0
    /// The most counted runs: the job's own limit, or else its handler's.
    public var maxAttempts: Int
    /// When the job was enqueued, by the database's clock.
    public var enqueuedAt: Date
    /// The W3C trace context that was given when the job was enqueued, if any.
    public var traceparent: String? {
        get { origin.texts.traceparent }
        set { change(\.traceparent, to: newValue) }
    }
    /// The vendor-specific data of the trace context, in the form of the W3C's `tracestate`, if any.
    public var tracestate: String? {
        get { origin.texts.tracestate }
        set { change(\.tracestate, to: newValue) }
    }
    /// The last checkpoint that an earlier run of the job has saved, as JSON text, if any. See
    /// ``JobContext/checkpoint(as:)``.
    public var checkpoint: String? {
        get { origin.texts.checkpoint }
        set { change(\.checkpoint, to: newValue) }
    }
    /// Whether the job is a probe: a half-open circuit let it through to test whether the dependency works again.
    public var isProbe: Bool

    /// The texts of a job except its payload. Jobs of one claim usually share them, and jobs are copied often, so each
    /// job has one reference instead of its own texts.
    package struct Texts: Sendable {
        var queue: String
        var kind: String
        /// The key of the job's circuit; empty for the kind's own circuit.
        var circuitKey = ""
        var traceparent: String?
        var tracestate: String?
        var checkpoint: String?
    }

    package final class Origin: Sendable {
        let texts: Texts

        init(_ texts: Texts) { self.texts = texts }
    }

    package var origin: Origin

    /// The source of the payload.
    package enum PayloadSource: Sendable {
        case text(String)
        /// The payload is in a claim's answer until the job runs. It is decoded then, so that the claim does not spend
        /// time on it.
        case answer(TextSlice)

        /// The length in bytes of UTF-8.
        var byteCount: Int {
            switch self {
            case .text(let text): text.utf8.count
            case .answer(let slice): slice.byteCount
            }
        }
    }

    package var payloadSource: PayloadSource

    /// The location of the job's row in its table, according to the claim.
    package var tuple = TupleID()
    /// The number of the claim that gave this job to this worker. Only the holder of the newest lease may settle.
    package var lease: Int64
    /// The generation of the kind's circuit when the job was claimed.
    package var generation: Int64
    /// The key of the job's circuit; empty for the kind's own circuit.
    package var circuitKey: String {
        get { origin.texts.circuitKey }
        set { change(\.circuitKey, to: newValue) }
    }
    /// When the claim was answered, and how many seconds the job had been ready by then.
    package var claimedAt = MonotonicClock.Instant.now
    package var waited = 0.0

    /// A text that is the same for every run of this job, so that receivers can recognise repeated requests.
    public var idempotencyKey: String { "breakwater-\(id)" }

    /// Makes a job for tests of handlers.
    ///
    /// - Parameters:
    ///   - id: The job's number. Defaults to 1.
    ///   - queue: The queue. Defaults to `default`.
    ///   - kind: The kind.
    ///   - priority: The priority from 0 to 9. Defaults to 5.
    ///   - payload: The payload as JSON text. Defaults to `{}`.
    ///   - attempt: The number of the counted run, starting from 1. Defaults to 1.
    ///   - maxAttempts: The most counted runs. Defaults to 20.
    ///   - enqueuedAt: When the job was enqueued. Defaults to now.
    ///   - traceparent: The W3C trace context. Defaults to none.
    ///   - tracestate: The vendor-specific data of the trace context. Defaults to none.
    ///   - isProbe: Whether the job is a probe. Defaults to false.
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

    /// Whether the job has the same claim and kind as another.
    func isLike(_ other: Job) -> Bool { lease == other.lease && (origin === other.origin || kind == other.kind) }

    /// Copies the payload out of the claim's answer, so that one long run does not keep the whole answer in memory.
    ///
    /// - Returns: False if it is not valid UTF-8. The server never sends such a text, because the session's encoding is
    ///   UTF-8.
    mutating func detachPayload() -> Bool {
        guard case .answer(let slice) = payloadSource else { return true }
        guard let text = slice.text else { return false }
        payloadSource = .text(text)
        return true
    }
}
