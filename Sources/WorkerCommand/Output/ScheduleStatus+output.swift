import Breakwater
import BreakwaterAdmin

extension ScheduleStatus {
    /// The schedule for programs.
    var json: JSONValue {
        .object([
            "name": .string(name),
            "cron": .string(orNull: cron),
            "every_seconds": .seconds(every),
            "time_zone": .string(timeZone),
            "kind": .string(kind),
            "queue": .string(queue),
            "payload": .raw(payload),
            "priority": .integer(Int64(priority)),
            "unique_key": .string(orNull: uniqueKey),
            "missed": .string(missed),
            "missed_after_seconds": .seconds(missedAfter),
            "missed_limit": .integer(Int64(missedLimit)),
            "overlap": .string(overlap),
            "state": .string(state),
            "why": .string(why),
            "next": .array(nextSlots.map { .time($0) }),
            "last_slot": .time(lastSlot),
            "last_job": lastJob.map { .integer($0) } ?? .null,
            "lateness_seconds": .seconds(lateness),
            "enqueued": .integer(enqueued),
            "skipped": .integer(skipped),
            "missed_slots": .integer(missedSlots),
            "set_by": .string(setBy),
            "set_at": .time(setAt),
            "configured_by": .string(orNull: configuredBy),
            "configured_at": .time(configuredAt),
        ])
    }

    /// The cron expression, or the interval.
    private var timesText: String { cron ?? every.map { "every \($0.text)" } ?? "" }

    /// The next slots for people, as moments, and as local times if the time zone is not UTC.
    private var nextTexts: [String] {
        zip(nextSlots, nextLocalTimes).map { slot, local in
            timeZone == "UTC" || cron == nil ? slot.shortText : "\(slot.shortText) (\(local) \(timeZone))"
        }
    }

    /// The schedule for people, one fact a line.
    var details: [(name: String, value: String)] {
        var details = [
            ("schedule", name), ("state", state), ("why", why),
            ("times", cron == nil || timeZone == "UTC" ? timesText : "\(timesText), \(timeZone)"),
        ]
        for (index, text) in nextTexts.enumerated() { details.append((index == 0 ? "next" : "then", text)) }
        details += [
            ("jobs", "\(kind), queue \(queue), priority \(priority)"), ("payload", payload),
            ("missed", "\(missed), from \(missedAfter.text) on" + (missed == "all" ? ", at most \(missedLimit)" : "")),
            ("overlap", overlap),
        ]
        if let uniqueKey { details.append(("unique key", uniqueKey)) }
        if let lastSlot, let lastJob {
            let late = lateness.map { ", \($0.shortText) late" } ?? ""
            details.append(("last", "\(lastSlot.shortText)\(late): job \(lastJob)"))
        }
        details += [
            ("slots", "\(enqueued) enqueued, \(skipped) skipped, \(missedSlots) missed"),
            ("set", "\(setAt.shortText) by \(setBy)"),
        ]
        if let configuredBy, let configuredAt {
            details.append(("configured", "by \(configuredBy), which started at \(configuredAt.shortText)"))
        }
        return details
    }

    /// Schedules under headings, each with its next five times below it.
    static func table(_ schedules: [ScheduleStatus]) -> Table {
        Table(
            columns: [
                .long("SCHEDULE"), .text("STATE"), .long("TIMES"), .text("ZONE"), .long("KIND"), .text("NEXT"),
                .text("LAST"), .number("ENQUEUED"), .number("SKIPPED"), .number("MISSED"), .long("WHY"),
            ],
            rows: schedules.flatMap { schedule in
                let first = [
                    schedule.name, schedule.state, schedule.timesText, schedule.timeZone, schedule.kind,
                    schedule.nextSlots.first?.shortText ?? "", schedule.lastSlot?.shortText ?? "",
                    "\(schedule.enqueued)", "\(schedule.skipped)", "\(schedule.missedSlots)", schedule.why,
                ]
                let others = schedule.nextSlots.dropFirst().map { slot in
                    [" ", " ", " ", " ", " ", slot.shortText, " ", " ", " ", " ", " "]
                }
                return [first] + others
            }
        )
    }
}

extension ScheduleSlot {
    /// The slot for programs.
    var json: JSONValue {
        .object([
            "slot": .time(slot),
            "by_hand": .bool(isByHand),
            "outcome": .string(outcome),
            "job": job.map { .integer($0) } ?? .null,
            "slots": .integer(Int64(slots)),
            "at": .time(at),
        ])
    }

    /// What became of the slot, in words.
    var words: String {
        switch (outcome, job) {
        case ("enqueued", let job?): isByHand ? "run by hand: job \(job)" : "job \(job)"
        case ("skipped", let job?): "skipped: job \(job) had not ended"
        case ("missed", _) where slots > 1: "missed, with the \(slots - 1) before it"
        default: outcome
        }
    }

    /// Slots under headings.
    static func table(_ slots: [ScheduleSlot]) -> Table {
        Table(
            columns: [.text("SLOT"), .text("DEALT WITH"), .long("WHAT BECAME OF IT")],
            rows: slots.map { [$0.slot.shortText, $0.at.shortText, $0.words] }
        )
    }
}
