import BreakwaterAdmin
import Foundation

/// A job in the list of `worker jobs`, whether it waits, runs or has ended.
struct ListedJob {
    private var id: Int64
    private var state: String
    private var kind: String
    private var queue: String
    private var attempt: Int
    private var key: String?
    private var uniqueKey: String?
    private var enqueuedAt: Date
    private var endedAt: Date?
    private var worker: String?
    private var why: String
    private var payload: String?

    init(_ job: JobStatus) {
        id = job.id
        state = job.state
        kind = job.kind
        queue = job.queue
        attempt = job.attempt
        uniqueKey = job.uniqueKey
        enqueuedAt = job.enqueuedAt
        why = job.why
        payload = job.payload
    }

    init(_ job: EndedJob) {
        id = job.id
        state = job.outcome
        kind = job.kind
        queue = job.queue
        attempt = job.attempt
        key = job.key
        uniqueKey = job.uniqueKey
        enqueuedAt = job.enqueuedAt
        endedAt = job.endedAt
        worker = job.worker
        why = job.why
        payload = job.payload
    }

    /// The job for programs. A long payload is cut, so it is a text.
    var json: JSONValue {
        .object([
            "id": .integer(id), "state": .string(state), "kind": .string(kind), "queue": .string(queue),
            "attempt": .integer(Int64(attempt)), "key": .string(orNull: key), "unique_key": .string(orNull: uniqueKey),
            "enqueued_at": .time(enqueuedAt), "ended_at": .time(endedAt), "worker": .string(orNull: worker),
            "why": why.isEmpty ? .null : .string(why), "payload_text": .string(orNull: payload),
        ])
    }

    /// Jobs under headings. `AT` is when a job ended, or else when it was enqueued.
    static func table(_ jobs: [ListedJob]) -> Table {
        Table(
            columns: [
                .number("ID"), .text("STATE"), .long("KIND"), .long("QUEUE"), .number("ATTEMPT"),
                .long("KEY", isOptional: true), .text("AT"), .long("WHY", isOptional: true),
                .long("PAYLOAD", isOptional: true),
            ],
            rows: jobs.map { job in
                [
                    "\(job.id)", job.state.replacing("_", with: "-"), job.kind, job.queue, "\(job.attempt)",
                    job.key ?? job.uniqueKey ?? "", (job.endedAt ?? job.enqueuedAt).shortText, job.why,
                    job.payload ?? "",
                ]
            }
        )
    }
}
