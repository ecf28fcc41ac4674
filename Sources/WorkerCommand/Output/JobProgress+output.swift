import BreakwaterAdmin

extension JobProgress {
    /// The facts that it adds to a job's story, for programs.
    var json: JSONValue {
        .object([
            "progress": .object([
                "fraction": .number(orNull: fraction),
                "note": .string(orNull: note),
                "reported_at": .time(reportedAt),
                "checkpoint": checkpoint.map { .raw($0) } ?? .null,
            ]),
            "cancelled_by": .string(orNull: cancelledBy),
            "cancelled_at": .time(cancelledAt),
        ])
    }

    /// The facts for people.
    var details: [(name: String, value: String)] {
        var details: [(name: String, value: String)] = []
        if let text { details.append(("progress", text + (reportedAt.map { ", at \($0.shortText)" } ?? ""))) }
        if let checkpoint { details.append(("checkpoint", checkpoint)) }
        if let cancelledBy, let cancelledAt {
            details.append(("cancelled", "by \(cancelledBy) at \(cancelledAt.shortText); the run is to end"))
        }
        return details
    }

    /// The fraction and the note; nil if there is neither.
    var text: String? {
        let parts = [percent.map { "\($0) %" }, note].compactMap { $0 }
        return parts.isEmpty ? nil : parts.joined(separator: ": ")
    }
}

extension RunningJob {
    var json: JSONValue {
        .object([
            "id": .integer(id),
            "kind": .string(kind),
            "worker": .string(worker),
            "since": .time(since),
            "fraction": .number(orNull: progress.fraction),
            "note": .string(orNull: progress.note),
            "cancelled_by": .string(orNull: progress.cancelledBy),
        ])
    }

    static func table(_ jobs: [RunningJob]) -> Table {
        Table(
            columns: [
                .number("ID"), .long("KIND"), .long("WORKER"), .text("SINCE"), .number("DONE", isOptional: true),
                .long("NOTE"),
            ],
            rows: jobs.map { job in
                [
                    "\(job.id)", job.kind, job.worker, job.since.shortText,
                    job.progress.percent.map { "\($0) %" } ?? "",
                    [job.progress.cancelledBy.map { "cancelled by \($0)" }, job.progress.note].compactMap { $0 }
                        .joined(separator: "; "),
                ]
            }
        )
    }
}
