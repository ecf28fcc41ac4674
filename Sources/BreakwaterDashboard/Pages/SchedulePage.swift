import BreakwaterAdmin
import Foundation

/// One schedule: its next times, its settings, its last slots, and what a user may do to it.
enum SchedulePage {
    @Sendable static func show(_ exchange: Exchange) async throws -> WebAnswer {
        let name = exchange.request.query["name"] ?? ""
        let (found, slots, done, now) = try await exchange.database { admin in
            (
                try await admin.schedules(name).first,
                try await admin.slots(ofSchedule: name, limit: 50),
                try await admin.audit(Self.actions(on: name), limit: 20),
                try await admin.now()
            )
        }
        guard let schedule = found else { throw Refusal.notFound("There is no such schedule.") }
        return try await exchange.page(name, .schedules, now: now) { layout in
            el(.p, .class("trail")) { el(.a, .href(Link("/schedules")), text: "Schedules") }
            el(.header, .class("title")) {
                el(.div) {
                    el(.h1) {
                        "\(schedule.name) "
                        SchedulesPage.badge(schedule.state)
                    }
                    el(.p, .class("reason"), text: schedule.why.withoutFractions)
                }
            }
            facts(schedule, now: now)
            if exchange.mayAct { forms(schedule, layout) }
            el(.div, .class("columns")) {
                nextTimes(schedule)
                lastSlots(slots, now: now)
            }
            el(.section, .class("panel")) {
                el(.h2, text: "Payload")
                el(.pre) { el(.code, text: schedule.payload) }
            }
            history(done, now: now)
        }
    }

    /// The manual actions on a schedule.
    private static func actions(on name: String) -> AuditFilter {
        var filter = AuditFilter()
        filter.actionPrefix = "schedule."
        filter.target = name
        return filter
    }

    private static func facts(_ schedule: ScheduleStatus, now: Date) -> HTML {
        el(.dl, .class("facts")) {
            fact("Times") { el(.code, text: SchedulesPage.timesText(schedule)) }
            fact("Next") { SchedulesPage.next(schedule) }
            fact("Kind") { schedule.kind }
            fact("Queue") { schedule.queue }
            fact("Priority") { "\(schedule.priority)" }
            if let key = schedule.uniqueKey { fact("Unique key") { key } }
            fact("Missed slots") {
                switch schedule.missed {
                case "all": "get a job each, the last \(schedule.missedLimit.grouped) of them"
                case "skip": "get no job"
                default: "get one job together"
                }
            }
            fact("Missed after") { schedule.missedAfter.short }
            fact("Overlap") { schedule.overlap == "skip" ? "skipped" : "allowed" }
            fact("Slots so far") {
                "\(Int(schedule.enqueued).grouped) enqueued, \(Int(schedule.skipped).grouped) skipped, "
                    + "\(Int(schedule.missedSlots).grouped) missed"
            }
            if let lateness = schedule.lateness { fact("Last lateness") { lateness.short } }
            fact("Set") {
                ago(schedule.setAt, now: now)
                " by \(schedule.setBy)"
            }
            if let worker = schedule.configuredBy { fact("Configured by") { worker } }
        }
    }

    private static func nextTimes(_ schedule: ScheduleStatus) -> HTML {
        el(.section, .class("panel")) {
            el(.h2, text: "Next times")
            if schedule.nextSlots.isEmpty { el(.p, .class("empty"), text: "It is paused.") }
            el(.ol, .class("plain lines")) {
                for (slot, local) in zip(schedule.nextSlots, schedule.nextLocalTimes) {
                    el(.li) {
                        stamp(slot)
                        if schedule.cron != nil, schedule.timeZone != "UTC" {
                            el(.span, .class("sub"), text: " \(local) \(schedule.timeZone)")
                        }
                    }
                }
            }
        }
    }

    private static func lastSlots(_ slots: [ScheduleSlot], now: Date) -> HTML {
        el(.section, .class("panel")) {
            el(.h2, text: "Last slots")
            if slots.isEmpty { el(.p, .class("empty"), text: "None came yet.") }
            el(.ol, .class("plain lines")) {
                for slot in slots {
                    el(.li) {
                        stamp(slot.slot)
                        " "
                        switch slot.outcome {
                        case "enqueued": slot.isByHand ? "run by hand: " : ""
                        case "skipped": "skipped, for it had not ended: "
                        default: slot.slots > 1 ? "missed, with the \((slot.slots - 1).grouped) before it" : "missed"
                        }
                        if let job = slot.job { el(.a, .href(Link("/jobs", id: job)), text: "job \(job)") }
                    }
                }
            }
        }
    }

    @HTMLBuilder private static func history(_ done: [AuditEntry], now: Date) -> HTML {
        if !done.isEmpty {
            el(.section, .class("panel")) {
                el(.h2, text: "What people did")
                el(.ol, .class("plain lines")) {
                    for entry in done {
                        el(.li) {
                            el(.strong, text: entry.actor)
                            " "
                            el(.code, text: entry.action)
                            " "
                            ago(entry.at, now: now)
                            if let reason = entry.reason { el(.span, .class("reason"), text: " “\(reason)”") }
                        }
                    }
                }
            }
        }
    }

    // MARK: - Acting

    private static func forms(_ schedule: ScheduleStatus, _ layout: Layout) -> HTML {
        el(.div, .class("actions")) {
            layout.form(Link("/schedules/run")) {
                hidden("name", schedule.name)
                el(.button, .label("Run \(schedule.name) now"), text: "Run now")
            }
            if schedule.state == "paused" {
                layout.form(Link("/schedules/resume")) {
                    hidden("name", schedule.name)
                    el(.button, .label("Resume \(schedule.name)"), text: "Resume")
                }
            } else {
                sheet(
                    "pause",
                    "Pause",
                    "Its times get no job until it is resumed, neither then nor later.",
                    schedule,
                    layout
                )
            }
            sheet("remove", "Remove", "Jobs that it has enqueued stay.", schedule, layout)
        }
    }

    private static func sheet(
        _ action: String,
        _ title: String,
        _ text: String,
        _ schedule: ScheduleStatus,
        _ layout: Layout
    ) -> HTML {
        el(.details, .class("act"), .id("\(action)-schedule")) {
            el(.summary, .class("button"), .label("\(title) \(schedule.name)"), text: title)
            layout.form(action == "pause" ? Link("/schedules/pause") : Link("/schedules/remove"), class: "sheet") {
                hidden("name", schedule.name)
                el(.p, .class("sub"), text: text)
                reasonField()
                el(.button, .class("primary"), text: title)
            }
        }
    }

    @Sendable static func pause(_ exchange: Exchange) async throws -> WebAnswer {
        let (name, reason) = (try exchange.name(), try exchange.need("reason", "The reason"))
        try await exchange.database { try await $0.pause(schedule: name, reason: reason, actor: exchange.actor) }
        return exchange.done("The schedule \(name) is paused.", to: SchedulesPage.link(name))
    }

    @Sendable static func resume(_ exchange: Exchange) async throws -> WebAnswer {
        let (name, reason) = (try exchange.name(), try exchange.reason())
        let next = try await exchange.database {
            try await $0.resume(schedule: name, reason: reason, actor: exchange.actor)
        }
        return exchange.done(
            next.map { "The schedule \(name) goes on, next at \($0.stamp)." } ?? "The schedule \(name) was not paused.",
            isFailure: next == nil,
            to: SchedulesPage.link(name)
        )
    }

    @Sendable static func run(_ exchange: Exchange) async throws -> WebAnswer {
        let (name, reason) = (try exchange.name(), try exchange.reason())
        let (job, isNew) = try await exchange.database {
            try await $0.run(schedule: name, reason: reason, actor: exchange.actor)
        }
        return exchange.done(
            isNew ? "Job \(job) of \(name) is enqueued." : "Nothing was added: job \(job) of \(name) has not ended.",
            isFailure: !isNew,
            to: SchedulesPage.link(name)
        )
    }

    @Sendable static func remove(_ exchange: Exchange) async throws -> WebAnswer {
        let (name, reason) = (try exchange.name(), try exchange.need("reason", "The reason"))
        let was = try await exchange.database {
            try await $0.remove(schedule: name, reason: reason, actor: exchange.actor)
        }
        return exchange.done(
            was ? "The schedule \(name) is removed." : "There was no schedule \(name).",
            isFailure: !was,
            to: Link("/schedules")
        )
    }
}
