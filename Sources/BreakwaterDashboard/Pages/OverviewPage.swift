import BreakwaterAdmin
import Foundation

/// The first page for an operator on call: which circuits are open and why, which jobs wait for them, and which jobs
/// died.
enum OverviewPage {
    private struct Facts: Sendable {
        var circuits: [CircuitView]
        var counts: [String: Int]
        var rates: [MinuteRate]
        /// The calls of the last sixty seconds.
        var calls: (succeeded: Int, failed: Int)
        var backlog: [Backlog]
        var workers: [WorkerStatus]
        var pauses: [Pause]
        var groups: [DeadLetterGroup]
        var lockWaits: [LockWait]
        /// The schedules that do not run.
        var schedules: [IdleSchedule]
        var now: Date
    }

    @Sendable static func show(_ exchange: Exchange) async throws -> WebAnswer {
        // The queries run concurrently, because in sequence they would take too long for a page.
        async let circuits = exchange.database { admin in
            let statuses = try await admin.someCircuits(limit: 6).filter { $0.state != "closed" || $0.override != nil }
            return try await CircuitView.read(statuses, admin)
        }
        async let backlog = exchange.database { try await $0.backlog() }
        async let rates = exchange.database { try await $0.rates(minutes: 61) }
        var facts = try await exchange.database { admin in
            Facts(
                circuits: [],
                counts: try await admin.circuitCounts(),
                rates: [],
                calls: try await admin.recentCallCounts(seconds: 60),
                backlog: [],
                workers: try await admin.workers(),
                pauses: try await admin.pauses(),
                groups: try await admin.latestFailures(limit: 3),
                lockWaits: try await admin.lockWaits().filter { $0.longest >= .seconds(1) },
                schedules: try await admin.idleSchedules(limit: 5),
                now: try await admin.now()
            )
        }
        (facts.circuits, facts.backlog, facts.rates) = try await (circuits, backlog, rates)
        return try await page(exchange, facts)
    }

    private static func page(_ exchange: Exchange, _ facts: Facts) async throws -> WebAnswer {
        try await exchange.page("Overview", .overview, now: facts.now) { _ in
            el(.h1, .class("visually-hidden"), text: "Overview")
            circuits(facts)
            tiles(facts)
            attention(facts)
            busiest(facts)
        }
    }

    @HTMLBuilder private static func circuits(_ facts: Facts) -> HTML {
        let all = facts.counts.values.reduce(0, +)
        let open = all - (facts.counts["closed"] ?? 0)
        el(.section) {
            el(.header, .class("verdict \(open > 0 ? "is-open" : "is-closed")")) {
                Pictures.lever(open > 0 ? "open" : "closed")
                el(.div) {
                    el(.h2) {
                        if all == 0 {
                            "There are no circuits yet"
                        } else if open == 0 {
                            all == 1 ? "The circuit is closed" : "All \(all.grouped) circuits are closed"
                        } else {
                            "\(open.of("circuit")) of \(all.grouped) \(open == 1 ? "is" : "are") not closed"
                        }
                    }
                    el(.p) { el(.a, .href(Link("/circuits")), text: "All circuits") }
                }
            }
            if !facts.circuits.isEmpty {
                el(.div, .class("cards")) {
                    for view in facts.circuits { view.card(now: facts.now, heading: .h3) }
                }
            }
        }
    }

    private static func tiles(_ facts: Facts) -> HTML {
        // The current minute is incomplete, so as the end of a curve it would always look like a drop. The last sixty
        // seconds replace it.
        let minutes = facts.rates.dropLast()
        let succeeded = minutes.map { Double($0.succeeded) } + [Double(facts.calls.succeeded)]
        let failed = minutes.map { Double($0.failed) } + [Double(facts.calls.failed)]
        let hour = facts.rates.reduce(0) { $0 + $1.died }
        let lately = facts.rates.suffix(11).reduce(0) { $0 + $1.died }
        let alive = facts.workers.filter(\.isAlive)
        let slots = alive.reduce(0) { $0 + $1.concurrency }
        let busy = alive.reduce(0) { $0 + $1.running }
        let oldest = facts.backlog.filter { $0.oldest != nil }.max { ($0.oldest ?? .zero) < ($1.oldest ?? .zero) }
        return el(.section, .class("tiles"), .label("Figures")) {
            tile("Throughput", facts.calls.succeeded.grouped, "succeeded in the last minute") {
                Pictures.curve(
                    succeeded,
                    class: "is-good",
                    label: "Calls that succeeded, by minute over the last hour: at most "
                        + "\(Int(succeeded.max() ?? 0).grouped)"
                )
            }
            tile("Failures", facts.calls.failed.grouped, "failed in the last minute") {
                Pictures.curve(
                    failed,
                    class: "is-bad",
                    label: "Calls that failed, by minute over the last hour: at most "
                        + "\(Int(failed.max() ?? 0).grouped)"
                )
            }
            tile(
                "Dead letters",
                "\(hour > 0 ? "+" : "")\(hour.grouped)",
                lately > 0 ? "in an hour, still growing" : "in an hour, none lately"
            ) {
                Pictures.curve(
                    facts.rates.map { Double($0.died) },
                    class: "is-warn",
                    label: "Jobs that became dead letters, by minute over the last hour: \(hour.grouped) in all"
                )
            }
            tile(
                "Oldest ready job",
                oldest?.oldest?.short ?? "none",
                oldest.map { "\($0.kind) in \($0.queue)" } ?? "nothing waits"
            ) {
                HTML()
            }
            tile("Workers", alive.count.grouped, "\(busy.grouped) of \(slots.grouped) slots busy") {
                Pictures.gauge(
                    slots > 0 ? Double(busy) / Double(slots) : 0,
                    threshold: nil,
                    label: "\(busy.grouped) of \(slots.grouped) slots are busy"
                )
            }
        }
    }

    private static func tile(
        _ name: String,
        _ figure: String,
        _ text: String,
        @HTMLBuilder _ picture: () -> HTML
    ) -> HTML {
        el(.article, .class("tile")) {
            el(.h2, text: name)
            el(.p, .class("figure"), text: figure)
            el(.p, .class("sub"), text: text)
            picture()
        }
    }

    /// Problems other than those of circuits.
    @HTMLBuilder private static func attention(_ facts: Facts) -> HTML {
        let unhandled = facts.backlog.filter { line in
            line.ready > 0
                && !facts.workers.contains {
                    $0.isAlive && $0.state == "running" && $0.kinds.contains(line.kind)
                        && $0.queues.contains(line.queue)
                }
        }
        let drained = facts.workers.filter { $0.drainReason != nil }
        let silent = facts.workers.filter { !$0.isAlive }
        if !unhandled.isEmpty || !drained.isEmpty || !silent.isEmpty || !facts.pauses.isEmpty || !facts.groups.isEmpty
            || !facts.lockWaits.isEmpty || !facts.schedules.isEmpty
        {
            el(.section, .class("panel")) {
                el(.h2, text: "Worth a look")
                el(.ul, .class("notes")) {
                    for wait in facts.lockWaits.prefix(5) {
                        el(.li) { "For \(wait.longest.short), \(wait.sentence)" }
                    }
                    for line in unhandled.prefix(5) {
                        note(
                            "No worker takes ",
                            line.kind,
                            " in the queue \(line.queue): \(line.ready.grouped(cap: AdminDatabase.countCap)) wait",
                            Link("/queues")
                        )
                    }
                    for pause in facts.pauses.prefix(5) {
                        note(
                            "The \(pause.scope) ",
                            pause.name,
                            " is paused by \(pause.actor): \(pause.reason)",
                            Link("/queues")
                        )
                    }
                    for schedule in facts.schedules {
                        note(
                            "The schedule ",
                            schedule.name,
                            " is \(schedule.state): \(schedule.why.withoutFractions)",
                            SchedulesPage.link(schedule.name)
                        )
                    }
                    for worker in drained.prefix(5) {
                        note("The worker ", worker.name, " is drained: \(worker.drainReason ?? "")", Link("/workers"))
                    }
                    for worker in silent.prefix(5) {
                        note(
                            "The worker ",
                            worker.name,
                            " has been silent for \(worker.silentFor.short)",
                            Link("/workers")
                        )
                    }
                    for group in facts.groups {
                        note(
                            "\(group.figure) dead: ",
                            group.kind,
                            " – \(group.failure.isEmpty ? "no error" : group.failure)",
                            Link("/dead-letters").with("kind", group.kind).with("failure", group.failure)
                        )
                    }
                }
            }
        }
    }

    private static func note(_ before: String, _ name: String, _ after: String, _ link: Link) -> HTML {
        el(.li) {
            before
            el(.a, .href(link), text: name)
            after
        }
    }

    @HTMLBuilder private static func busiest(_ facts: Facts) -> HTML {
        let lines = facts.backlog.filter {
            $0.ready + $0.running + $0.scheduled + $0.retrying + $0.parked + $0.dependent > 0
        }
        .sorted { ($0.ready + $0.parked, $0.running) > ($1.ready + $1.parked, $1.running) }
        .prefix(8)
        if !lines.isEmpty {
            el(.section, .class("panel")) {
                el(.h2) { el(.a, .href(Link("/queues")), text: "Fullest queues") }
                QueuesPage.table(Array(lines), cap: AdminDatabase.countCap)
            }
        }
    }
}
