import BreakwaterAdmin

/// Everything that `worker status` shows.
struct FleetStatus: Equatable {
    /// Sessions whose locks block others.
    var lockWaits: [LockWait] = []
    var depths: [Depth]
    /// The running jobs that report progress or are cancelled, the latest report first, at most ``mostRunning``.
    var running: [RunningJob] = []
    var workers: [WorkerStatus]
    /// The circuits that are not closed or have an override.
    var circuits: [CircuitStatus]
    var suspensions: [Suspension]
    var pauses: [Pause]
    /// The limits, ordered keys and shares that hold back jobs.
    var limits: [LimitStatus] = []
    var deadLetters: [DeadLetterCount]
    /// The schedules that are paused, failing or overdue, at most ``mostSchedules``.
    var schedules: [IdleSchedule] = []

    /// The most running jobs that are named.
    static let mostRunning = 20
    /// The most schedules that are named.
    static let mostSchedules = 20

    /// The tables that are not empty, for people.
    var tables: [(title: String, table: Table)] {
        wholeTables.map { title, table in
            var table = table
            table.rows = Array(table.rows.prefix(Self.mostRows))
            return (title, table)
        }
    }

    private static let mostRows = 100

    private var wholeTables: [(title: String, table: Table)] {
        [
            ("JOBS", Depth.table(depths)),
            ("PROGRESS", RunningJob.table(running)),
            ("WORKERS", WorkerStatus.table(workers)),
            ("CIRCUITS NOT CLOSED", CircuitStatus.table(circuits)),
            ("SUSPENDED WORKERS", Suspension.table(suspensions)),
            ("PAUSED", Pause.table(pauses)),
            ("HELD BACK BY LIMITS", LimitStatus.table(limits)),
            ("DEAD LETTERS", DeadLetterCount.table(deadLetters)),
        ].filter { !$0.1.rows.isEmpty }
    }

    /// The tables in the order for a screen: circuits, suspensions, pauses and limits come first.
    var watchTables: [(title: String, table: Table)] {
        let order = [
            "CIRCUITS NOT CLOSED", "SUSPENDED WORKERS", "PAUSED", "HELD BACK BY LIMITS", "JOBS", "PROGRESS", "WORKERS",
            "DEAD LETTERS",
        ]
        return wholeTables.sorted { (order.firstIndex(of: $0.title) ?? 0) < (order.firstIndex(of: $1.title) ?? 0) }
    }

    /// The queues and kinds with jobs for which no living worker has a handler.
    var unhandled: [Depth] { depths.filter { $0.workers == 0 } }

    /// The most kinds that are named. Any client that can enqueue can create any number of kinds.
    private static let mostUnhandled = 20

    /// The most important facts in words.
    var sentences: [String] {
        var sentences = lockWaits.map { "For \($0.longest.shortText), \($0.sentence)." }
        sentences += unhandled.prefix(Self.mostUnhandled).map { depth -> String in
            let count = depth.ready + depth.scheduled + depth.retrying + depth.parked + depth.dependent
            return "No worker that is alive handles '\(depth.kind)' in the queue '\(depth.queue)': "
                + (count == 1 ? "1 job waits." : "\(count) jobs wait.")
        }
        if unhandled.count > Self.mostUnhandled {
            sentences.append("So it is with \(unhandled.count - Self.mostUnhandled) more kinds.")
        }
        sentences += workers.filter { !$0.isAlive }.map { worker in
            "\(worker.title) has been silent for \(worker.silentFor.shortText); its jobs go to the others."
        }
        sentences += workers.compactMap { worker in
            worker.drainReason.map { "\(worker.title) is drained: \($0)" }
        }
        sentences += workers.filter { $0.unresponsive > 0 }.map { worker in
            "\(worker.title) has \(worker.unresponsive) runs that go on although they were cancelled."
        }
        sentences += schedules.map { "The schedule '\($0.name)' is \($0.state): \($0.why)." }
        sentences += wholeTables.filter { $0.table.rows.count > Self.mostRows }.map { title, table in
            "\(title) shows the first \(Self.mostRows) of \(table.rows.count) rows; --json has all of them."
        }
        if depths.isEmpty { sentences.append("There are no jobs.") }
        if workers.isEmpty { sentences.append("There are no workers.") }
        return sentences
    }

    /// The whole status for programs.
    var json: JSONValue {
        .object([
            "lock_waits": .array(lockWaits.map(\.json)),
            "jobs": .array(depths.map(\.json)),
            "running": .array(running.map(\.json)),
            "workers": .array(workers.map(\.json)),
            "circuits_not_closed": .array(circuits.map(\.json)),
            "suspended_workers": .array(
                suspensions.map { .object([.init("circuit", .string($0.circuitName))] + $0.json.members) }
            ),
            "paused": .array(pauses.map(\.json)),
            "held_back": .array(limits.map(\.json)),
            "dead_letters": .array(deadLetters.map(\.json)),
            "schedules_not_running": .array(
                schedules.map {
                    .object(["name": .string($0.name), "state": .string($0.state), "why": .string($0.why)])
                }
            ),
            "unhandled": .array(
                unhandled.map { .object(["queue": .string($0.queue), "kind": .string($0.kind)]) }
            ),
        ])
    }
}

extension LockWait {
    fileprivate var json: JSONValue {
        .object([
            "pid": .integer(Int64(pid)),
            "waiting": .integer(Int64(waiting)),
            "longest_seconds": .seconds(longest),
            "held_by": .string(words),
        ])
    }
}

extension Depth {
    fileprivate var json: JSONValue {
        .object([
            "queue": .string(queue),
            "kind": .string(kind),
            "ready": .integer(Int64(ready)),
            "running": .integer(Int64(running)),
            "scheduled": .integer(Int64(scheduled)),
            "retrying": .integer(Int64(retrying)),
            "parked": .integer(Int64(parked)),
            "dependent": .integer(Int64(dependent)),
            "oldest_ready_seconds": .seconds(oldestReady),
            "next_due": .time(nextDue),
            "paused": .bool(isPaused),
            "circuit": .string(circuit),
            "workers": .integer(Int64(workers)),
        ])
    }

    fileprivate static func table(_ depths: [Depth]) -> Table {
        Table(
            columns: [
                .long("QUEUE"), .long("KIND"), .number("READY"), .number("RUNNING"), .number("SCHEDULED"),
                .number("RETRYING"), .number("PARKED", isOptional: true), .number("DEPENDENT", isOptional: true),
                .number("OLDEST"), .number("WORKERS"),
                .text("CIRCUIT"),
            ],
            rows: depths.map { depth in
                [
                    depth.queue, depth.kind, "\(depth.ready)", "\(depth.running)", "\(depth.scheduled)",
                    "\(depth.retrying)", depth.parked > 0 ? "\(depth.parked)" : "",
                    depth.dependent > 0 ? "\(depth.dependent)" : "", depth.oldestReady?.shortText ?? "",
                    "\(depth.workers)",
                    depth.circuit + (depth.isPaused ? ", paused" : ""),
                ]
            }
        )
    }
}

extension WorkerStatus {
    /// The worker's name in a sentence.
    var title: String { "Worker \(id) (\(name))" }

    fileprivate var json: JSONValue {
        .object([
            "id": .integer(id),
            "name": .string(name),
            "version": .string(version),
            "state": .string(state),
            "alive": .bool(isAlive),
            "leads": .bool(leads),
            "queues": .array(queues.map { .string($0) }),
            "kinds": .array(kinds.map { .string($0) }),
            "concurrency": .integer(Int64(concurrency)),
            "running": .integer(Int64(running)),
            "unresponsive": .integer(Int64(unresponsive)),
            "started_at": .time(startedAt),
            "silent_seconds": .seconds(silentFor),
            "drain_reason": .string(orNull: drainReason),
        ])
    }

    fileprivate static func table(_ workers: [WorkerStatus]) -> Table {
        Table(
            columns: [
                .number("ID"), .long("NAME"), .text("STATE"), .number("RUNNING"), .number("BEAT"), .text("STARTED"),
                .long("QUEUES"), .long("KINDS"),
            ],
            rows: workers.map { worker in
                [
                    "\(worker.id)", worker.name,
                    (worker.isAlive ? worker.state : "silent") + (worker.leads ? ", leads" : ""),
                    "\(worker.running)/\(worker.concurrency)", worker.silentFor.shortText, worker.startedAt.shortText,
                    worker.queues.joined(separator: " "), worker.kinds.joined(separator: " "),
                ]
            }
        )
    }
}

extension Pause {
    fileprivate var json: JSONValue {
        .object([
            "scope": .string(scope),
            "name": .string(name),
            "reason": .string(reason),
            "actor": .string(actor),
            "since": .time(since),
        ])
    }

    fileprivate static func table(_ pauses: [Pause]) -> Table {
        Table(
            columns: [.text("WHAT"), .long("NAME"), .text("SINCE"), .long("BY"), .long("REASON")],
            rows: pauses.map { [$0.scope, $0.name, $0.since.shortText, $0.actor, $0.reason] }
        )
    }
}

extension DeadLetterCount {
    fileprivate var json: JSONValue {
        .object([
            "kind": .string(kind),
            "reason": .string(reason),
            "count": .integer(Int64(count)),
            "newest": .time(newest),
        ])
    }

    fileprivate static func table(_ counts: [DeadLetterCount]) -> Table {
        Table(
            columns: [.long("KIND"), .text("REASON"), .number("COUNT"), .text("NEWEST")],
            rows: counts.map { [$0.kind, $0.reason, "\($0.count)", $0.newest.shortText] }
        )
    }
}
