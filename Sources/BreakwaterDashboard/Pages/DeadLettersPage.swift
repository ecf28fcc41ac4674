import BreakwaterAdmin
import Foundation

extension DeadLetterGroup {
    /// The count, with a plus if counting stopped at the cap.
    var figure: String { "\(count.grouped)\(isCapped ? "+" : "")" }
}

/// Jobs that ended without success: groups by cause, the list, and the actions on many.
enum DeadLettersPage {
    static let pageSize = 50
    private static let groupLimit = 200
    /// Counting the affected dead letters stops here: beyond this, the exact number makes no difference to a user.
    static let dryRunCap = 100_000
    private static let reasons = [
        "exhausted", "discarded", "expired", "poison", "unreadable", "circuit_open", "cancelled",
    ]

    private struct Facts: Sendable {
        var groups: [DeadLetterGroup]
        var letters: [DeadLetter]
        var rates: [MinuteRate]
        var now: Date
    }

    @Sendable static func show(_ exchange: Exchange) async throws -> WebAnswer {
        let query = exchange.request.query
        let choice = filter(query)
        let before = cursor(query)
        let facts = try await exchange.database { admin in
            Facts(
                groups: choice.failure == nil
                    ? try await admin.deadLetterGroups(kind: choice.kind, limit: groupLimit) : [],
                letters: try await admin.deadLetters(choice, before: before, limit: pageSize + 1),
                rates: try await admin.rates(minutes: 61, kind: choice.kind),
                now: try await admin.now()
            )
        }
        let runs = await exchange.site.runs.all
        return try await exchange.page("Dead letters", .deadLetters, now: facts.now) { layout in
            el(.h1, text: "Dead letters")
            progress(runs, layout, mayAct: exchange.mayAct)
            search(choice)
            if facts.letters.isEmpty, facts.groups.isEmpty {
                el(.p, .class("empty"), text: "No job has died\(query["kind"] == nil ? "" : " like this"). Good.")
            }
            if before == nil { growth(facts.rates) }
            if before == nil, facts.groups.count > 0 { groups(facts) }
            if !facts.letters.isEmpty { table(facts, choice, layout, mayAct: exchange.mayAct) }
            if facts.letters.count > pageSize, let last = facts.letters.prefix(pageSize).last {
                el(.nav, .class("pages"), .label("More dead letters")) {
                    el(
                        .a,
                        .href(link(choice).with("before", "\(last.diedAt.microseconds)-\(last.id)")),
                        text: "Older →"
                    )
                }
            }
        }
    }

    // MARK: - Selection

    static func filter(_ values: FormValues) -> DeadLetterChoice {
        var choice = DeadLetterChoice()
        choice.kind = values["kind"]?.trimmed
        choice.reason = values["reason"]
        // A blank cause is valid and means that there was no error. A cause needs a kind.
        if choice.kind != nil, let failure = values.all("failure").first, values["cause"] != "any" {
            choice.failure = failure
        }
        return choice
    }

    static func link(_ choice: DeadLetterChoice) -> Link {
        Link("/dead-letters").with("kind", choice.kind).with("reason", choice.reason).with("failure", choice.failure)
    }

    /// The position at which a page begins: a time in microseconds, and an id.
    private static func cursor(_ values: FormValues) -> (diedAt: Date, id: Int64)? {
        let parts = (values["before"] ?? "").split(separator: "-")
        guard parts.count == 2, let at = Int64(parts[0]), let id = Int64(parts[1]) else { return nil }
        return (Date(timeIntervalSince1970: Double(at) / 1e6), id)
    }

    static func describe(_ choice: DeadLetterChoice) -> String {
        if let ids = choice.ids { return ids.count == 1 ? "job \(ids[0])" : "\(ids.count) chosen jobs" }
        var parts: [String] = []
        if let kind = choice.kind { parts.append("of the kind \(kind)") }
        if let reason = choice.reason { parts.append("that are \(reason)") }
        if let failure = choice.failure { parts.append(failure.isEmpty ? "without an error" : "with “\(failure)”") }
        return parts.isEmpty ? "all dead letters" : "those " + parts.joined(separator: ", ")
    }

    // MARK: - Display

    private static func search(_ choice: DeadLetterChoice) -> HTML {
        el(.form, .class("search"), .named("method", "get"), .action(Link("/dead-letters")), .named("role", "search")) {
            el(.label) {
                "Kind"
                el(
                    .input,
                    .name("kind"),
                    .value(choice.kind ?? ""),
                    .named("maxlength", "200"),
                    .named("autocomplete", "off")
                )
            }
            el(.label) {
                "Reason"
                el(.select, .name("reason")) {
                    el(.option, .value(""), text: "any")
                    for reason in reasons {
                        el(
                            .option,
                            .value(reason),
                            .flag("selected", reason == choice.reason),
                            text: reason.replacing("_", with: " ")
                        )
                    }
                }
            }
            el(.button, text: "Search")
            if choice != DeadLetterChoice() { el(.a, .class("button"), .href(Link("/dead-letters")), text: "All") }
            if let failure = choice.failure {
                el(.p, .class("chip")) {
                    "Cause: "
                    el(.strong, text: failure.isEmpty ? "no error" : failure)
                }
            }
        }
    }

    @HTMLBuilder private static func growth(_ rates: [MinuteRate]) -> HTML {
        let sum = rates.reduce(0) { $0 + $1.died }
        if sum > 0 {
            el(.div, .class("panel growth")) {
                Pictures.curve(
                    rates.map { Double($0.died) },
                    class: "is-warn",
                    label: "Jobs that died, by minute over the last hour: \(sum.grouped) in all"
                )
                el(.p, .class("caption"), text: "\(sum.of("job")) died in the last hour")
            }
        }
    }

    private static func groups(_ facts: Facts) -> HTML {
        el(.section) {
            el(.h2, text: "By cause")
            el(.ul, .class("causes")) {
                for group in facts.groups.sorted(by: { $0.count > $1.count }) {
                    el(.li) {
                        el(
                            .a,
                            .class("cause"),
                            .href(Link("/dead-letters").with("kind", group.kind).with("failure", group.failure))
                        ) {
                            el(.span, .class("figure"), text: group.figure)
                            el(.span, .class("head")) {
                                el(.span, .class("name"), text: group.kind)
                                el(.span, .class("error"), text: group.failure.isEmpty ? "no error" : group.failure)
                            }
                            el(.span, .class("sub")) {
                                "newest "
                                ago(group.newest, now: facts.now)
                            }
                        }
                    }
                }
            }
            if facts.groups.count == groupLimit {
                el(.p, .class("sub"), text: "There are more causes than these \(groupLimit); choose a kind.")
            }
        }
    }

    private static func table(
        _ facts: Facts,
        _ choice: DeadLetterChoice,
        _ layout: Layout,
        mayAct: Bool
    ) -> HTML {
        let letters = facts.letters.prefix(pageSize)
        let rows = el(.div, .class("scroll panel")) {
            el(.table) {
                el(.thead) {
                    el(.tr) {
                        if mayAct {
                            el(.th, .named("scope", "col"), .class("box")) {
                                el(
                                    .input,
                                    .type("checkbox"),
                                    .named("data-all", "id"),
                                    .label("Choose all of this page")
                                )
                            }
                        }
                        for name in ["Id", "Kind", "Reason", "Last error", "Died"] {
                            el(.th, .named("scope", "col"), text: name)
                        }
                    }
                }
                el(.tbody) {
                    for letter in letters {
                        el(.tr) {
                            if mayAct {
                                el(.td, .class("box")) {
                                    el(
                                        .input,
                                        .type("checkbox"),
                                        .name("id"),
                                        .value("\(letter.id)"),
                                        .label("Choose job \(letter.id)")
                                    )
                                }
                            }
                            el(.th, .named("scope", "row")) {
                                el(.a, .href(Link("/jobs", id: letter.id)), text: "\(letter.id)")
                            }
                            el(.td, .named("data-label", "Kind"), text: letter.kind)
                            el(.td, .named("data-label", "Reason"), text: letter.reason.replacing("_", with: " "))
                            el(
                                .td,
                                .named("data-label", "Last error"),
                                .class("error"),
                                text: String((letter.lastError ?? "").prefix(300))
                            )
                            el(.td, .named("data-label", "Died")) { ago(letter.diedAt, now: facts.now) }
                        }
                    }
                }
            }
        }
        guard mayAct else { return rows }
        return el(.section) {
            el(.h2, text: "One by one")
            layout.form(Link("/dead-letters/prepare")) {
                for (name, value) in [("kind", choice.kind), ("reason", choice.reason)] {
                    if let value { hidden(name, value) }
                }
                if let failure = choice.failure { hidden("failure", failure) }
                el(.div, .class("actions")) {
                    el(
                        .button,
                        .class("primary"),
                        .name("do"),
                        .value("redrive chosen"),
                        text: "Redrive the chosen…"
                    )
                    el(.button, .name("do"), .value("purge chosen"), text: "Purge the chosen…")
                    el(
                        .button,
                        .name("do"),
                        .value("redrive matching"),
                        text: "Redrive all that match…"
                    )
                    el(
                        .button,
                        .class("is-grave"),
                        .name("do"),
                        .value("purge matching"),
                        text: "Purge all that match…"
                    )
                }
                rows
            }
        }
    }

    @HTMLBuilder private static func progress(_ runs: [BulkRun], _ layout: Layout, mayAct: Bool) -> HTML {
        if !runs.isEmpty {
            el(.section, .class("panel"), .id("runs")) {
                el(.h2, text: "Under way, and lately done")
                el(.ul, .class("plain lines")) {
                    for run in runs {
                        el(.li) {
                            el(.div, .class("head")) {
                                el(.strong, text: run.action == .redrive ? "Redrive" : "Purge")
                                " \(run.what), by \(run.actor)"
                                el(.span, .class("sub")) {
                                    switch run.phase {
                                    case .running:
                                        "\(run.done.grouped) of \(run.expected.grouped(cap: dryRunCap)), at most \(run.perSecond.grouped) a second"
                                    case .finished: "done: \(run.done.grouped)"
                                    case .stopped(let actor): "stopped by \(actor) after \(run.done.grouped)"
                                    case .failed(let why): "failed after \(run.done.grouped): \(why)"
                                    }
                                }
                                if run.phase == .running {
                                    Pictures.gauge(
                                        Double(run.done) / Double(max(run.expected, 1)),
                                        threshold: nil,
                                        label: "\(run.done) of \(run.expected)"
                                    )
                                }
                            }
                            if mayAct, run.phase == .running {
                                layout.form(Link("/dead-letters/stop")) {
                                    hidden("run", "\(run.id)")
                                    el(.button, text: "Stop")
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

extension Date {
    /// The time in microseconds since 1970. This is the database's precision, so a value that was read compares equal
    /// when it is sent back.
    var microseconds: Int64 { Int64((timeIntervalSince1970 * 1e6).rounded()) }
}
