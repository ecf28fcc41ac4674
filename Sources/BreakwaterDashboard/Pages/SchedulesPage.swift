import Breakwater
import BreakwaterAdmin

/// The schedules: when each runs next, what became of its last slot, and why one does not run.
enum SchedulesPage {
    @Sendable static func show(_ exchange: Exchange) async throws -> WebAnswer {
        let (schedules, now) = try await exchange.database { admin in
            (try await admin.schedules(), try await admin.now())
        }
        return try await exchange.page("Schedules", .schedules, now: now) { _ in
            el(.h1, text: "Schedules")
            if schedules.isEmpty {
                el(.p, .class("empty")) {
                    "There are no schedules. A worker's configuration names them under schedules:, or set one: "
                    "worker schedules set NAME --cron \"0 3 * * *\" --kind KIND"
                }
            } else {
                el(.section, .class("panel")) {
                    el(.div, .class("scroll")) {
                        el(.table) {
                            el(.thead) {
                                el(.tr) {
                                    for title in ["Schedule", "State", "Times", "Next", "Last", "Kind"] {
                                        el(.th, .named("scope", "col"), text: title)
                                    }
                                }
                            }
                            el(.tbody) {
                                for schedule in schedules {
                                    el(.tr) {
                                        el(.th, .named("scope", "row")) {
                                            el(.a, .href(link(schedule.name)), text: schedule.name)
                                        }
                                        el(.td) {
                                            badge(schedule.state)
                                            if schedule.state != "active" {
                                                el(.span, .class("sub"), text: " " + schedule.why.withoutFractions)
                                            }
                                        }
                                        el(.td) { el(.code, text: timesText(schedule)) }
                                        el(.td) { next(schedule) }
                                        el(.td) {
                                            if let slot = schedule.lastSlot { ago(slot, now: now) } else { "–" }
                                        }
                                        el(.td) { schedule.kind }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// The address of a schedule's page.
    static func link(_ name: String) -> Link { Link("/schedules/one").with("name", name) }

    /// When a schedule runs next.
    static func next(_ schedule: ScheduleStatus) -> HTML {
        guard let time = schedule.nextIn else { return HTML("–") }
        return countdown(time, then: "now")
    }

    /// The cron expression with its time zone, or the interval.
    static func timesText(_ schedule: ScheduleStatus) -> String {
        schedule.cron.map { "\($0) \(schedule.timeZone)" } ?? schedule.every.map { "every \($0.text)" } ?? ""
    }

    /// A badge with the state and its colour.
    static func badge(_ state: String) -> HTML {
        let (title, cssClass) =
            switch state {
            case "active": ("Active", "is-good")
            case "waiting": ("Waiting", "is-warn")
            case "paused": ("Paused", "is-warn")
            case "overdue": ("Overdue", "is-bad")
            case "failing": ("Failing", "is-bad")
            default: (state, "")
            }
        return el(.span, .class("badge \(cssClass)"), text: title)
    }
}
