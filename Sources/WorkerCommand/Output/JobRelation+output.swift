import BreakwaterAdmin

extension JobRelation {
    /// The relation for programs.
    var json: JSONValue {
        .object([
            "direction": .string(direction.rawValue),
            "depth": .integer(Int64(depth)),
            "job": .integer(job),
            "parent": .integer(parent),
            "kind": .string(orNull: kind),
            "state": .string(state),
        ])
    }

    /// One line of a drawn tree.
    private var line: String {
        let kind = kind.map { " \($0)" } ?? ""
        let state = direction == .dependency ? ": \(state)" : ""
        return String(repeating: "  ", count: depth - 1) + "└─ \(job)\(kind)\(state)"
    }

    /// Draws the jobs that a job waits for, and those that wait for it, each below its parent.
    static func draw(_ relations: [JobRelation]) -> [String] {
        var lines: [String] = []
        for (direction, title) in [(Direction.dependency, "WAITS FOR"), (.dependant, "WAITED FOR BY")] {
            let some = relations.filter { $0.direction == direction }
            if some.isEmpty { continue }
            lines += ["", title] + some.map(\.line)
            if some.count >= AdminDatabase.mostRelations { lines.append("… and more") }
        }
        return lines
    }
}

extension BatchStatus {
    /// The batch for programs.
    var json: JSONValue {
        .object([
            "id": .integer(id),
            "kind": .string(orNull: kind),
            "state": .string(state),
            "open": .bool(isOpen),
            "jobs": .integer(Int64(jobs)),
            "waiting": .integer(Int64(waiting)),
            "succeeded": .integer(Int64(succeeded)),
            "dead": .integer(Int64(dead)),
            "ended_at": .time(endedAt),
        ])
    }

    /// Batches under headings.
    static func table(_ batches: [BatchStatus]) -> Table {
        Table(
            columns: [
                .number("ID"), .long("CALLBACK"), .text("STATE"), .number("JOBS"), .number("WAITING"),
                .number("SUCCEEDED"), .number("DEAD"), .text("ENDED"),
            ],
            rows: batches.map { batch in
                [
                    "\(batch.id)", batch.kind ?? "", batch.isOpen ? "open" : batch.state, "\(batch.jobs)",
                    "\(batch.waiting)", "\(batch.succeeded)", "\(batch.dead)", batch.endedAt?.shortText ?? "",
                ]
            }
        )
    }
}
