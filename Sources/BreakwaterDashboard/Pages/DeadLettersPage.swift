import BreakwaterAdmin
import Foundation

extension DeadLetterGroup {
    /// How many there are, with a plus where counting stopped.
    var figure: String { "\(count.grouped)\(isCapped ? "+" : "")" }
}

/// Jobs that ended without success: by cause, one by one, and what is done to many.
enum DeadLettersPage {
    static let pageSize = 50
    private static let groupLimit = 200
    /// Counting what would be done stops here: beyond, people read "more than a hundred thousand" the same way.
    private static let dryRunCap = 100_000
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

    // MARK: - Which

    private static func filter(_ values: FormValues) -> DeadLetterChoice {
        var choice = DeadLetterChoice()
        choice.kind = values["kind"]?.trimmed
        choice.reason = values["reason"]
        // Blank is a cause too: no error at all. A cause belongs to a kind.
        if choice.kind != nil, let failure = values.all("failure").first, values["cause"] != "any" {
            choice.failure = failure
        }
        return choice
    }

    private static func link(_ choice: DeadLetterChoice) -> Link {
        Link("/dead-letters").with("kind", choice.kind).with("reason", choice.reason).with("failure", choice.failure)
    }

    /// Where a page begins: a time in microseconds, and an id.
    private static func cursor(_ values: FormValues) -> (diedAt: Date, id: Int64)? {
        let parts = (values["before"] ?? "").split(separator: "-")
        guard parts.count == 2, let at = Int64(parts[0]), let id = Int64(parts[1]) else { return nil }
        return (Date(timeIntervalSince1970: Double(at) / 1e6), id)
    }

    private static func describe(_ choice: DeadLetterChoice) -> String {
        if let ids = choice.ids { return ids.count == 1 ? "job \(ids[0])" : "\(ids.count) chosen jobs" }
        var parts: [String] = []
        if let kind = choice.kind { parts.append("of the kind \(kind)") }
        if let reason = choice.reason { parts.append("that are \(reason)") }
        if let failure = choice.failure { parts.append(failure.isEmpty ? "without an error" : "with “\(failure)”") }
        return parts.isEmpty ? "all dead letters" : "those " + parts.joined(separator: ", ")
    }

    // MARK: - Looking

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

    // MARK: - Acting

    /// What a form means: its action, and those it is about.
    private static func meant(_ exchange: Exchange) throws -> (action: BulkAction, choice: DeadLetterChoice) {
        let form = exchange.request.form
        let words = (form["do"] ?? "").split(separator: " ")
        let name = words.first.map(String.init) ?? form["action"] ?? ""
        guard let action = BulkAction(rawValue: name) else { throw Refusal.wrong("No such action.") }
        var choice = DeadLetterChoice()
        if words.last == "matching" || form["scope"] == "matching" {
            choice = filter(form)
        } else {
            let ids = form.all("id").compactMap { Int64($0) }
            guard !ids.isEmpty else { throw Refusal.wrong("No dead letter is chosen.") }
            guard ids.count <= 1000 else { throw Refusal.wrong("At most 1,000 can be chosen at once.") }
            choice.ids = ids
        }
        return (action, choice)
    }

    /// Says how many it would be, and asks for the rate and the reason: nothing happens yet.
    @Sendable static func prepare(_ exchange: Exchange) async throws -> WebAnswer {
        let (action, choice) = try meant(exchange)
        let (count, now) = try await exchange.database { admin in
            (try await admin.countDeadLetters(choice, cap: dryRunCap), try await admin.now())
        }
        let verb = action == .redrive ? "Redrive" : "Purge"
        return try await exchange.page("\(verb) dead letters", .deadLetters, isLive: false, now: now) { layout in
            el(.p, .class("trail")) { el(.a, .href(link(choice)), text: "Dead letters") }
            el(.section, .class("panel confirm")) {
                el(.h1, text: "\(verb) \(count.grouped(cap: dryRunCap)) \(count == 1 ? "job" : "jobs")?")
                el(.p, text: "Meant: \(describe(choice)), as of now.")
                el(.p, .class("sub")) {
                    switch action {
                    case .redrive:
                        "They become jobs again, with their counters reset. Those behind an open circuit wait there. "
                        "Those whose unique key a newer job has stay dead letters."
                    case .purge: "They are deleted for good, with their payloads and errors."
                    }
                }
                if count == 0 {
                    el(.p) { el(.a, .href(link(choice)), .class("button"), text: "Back") }
                } else {
                    layout.form(
                        action == .redrive ? Link("/dead-letters/redrive") : Link("/dead-letters/purge"),
                        class: "sheet"
                    ) {
                        for id in choice.ids ?? [] { hidden("id", "\(id)") }
                        if choice.ids == nil {
                            hidden("scope", "matching")
                            if let kind = choice.kind { hidden("kind", kind) }
                            if let reason = choice.reason { hidden("reason-of-death", reason) }
                            if let failure = choice.failure { hidden("failure", failure) }
                        }
                        hidden("action", action.rawValue)
                        hidden("until", "\(now.microseconds)")
                        hidden("expected", "\(count)")
                        if count > 1 {
                            el(.label) {
                                "At most so many a second"
                                el(
                                    .input,
                                    .type("number"),
                                    .name("rate"),
                                    .value("100"),
                                    .named("min", "1"),
                                    .named("max", "5000"),
                                    .flag("required")
                                )
                            }
                        }
                        el(.label) {
                            "Reason"
                            el(
                                .input,
                                .name("reason"),
                                .flag("required"),
                                .named("maxlength", "500"),
                                .named("autocomplete", "off")
                            )
                        }
                        el(.div, .class("actions")) {
                            el(.button, .class(action == .purge ? "primary is-grave" : "primary"), text: verb)
                            el(.a, .class("button"), .href(link(choice)), text: "Leave it")
                        }
                    }
                }
            }
        }
    }

    @Sendable static func redrive(_ exchange: Exchange) async throws -> WebAnswer {
        try await begin(.redrive, exchange)
    }

    @Sendable static func purge(_ exchange: Exchange) async throws -> WebAnswer { try await begin(.purge, exchange) }

    /// One is done at once, and its outcome shown; several become a run.
    private static func begin(_ action: BulkAction, _ exchange: Exchange) async throws -> WebAnswer {
        let form = exchange.request.form
        var choice = DeadLetterChoice()
        let why = try exchange.need("reason", "The reason")
        if form["scope"] == "matching" {
            choice.kind = form["kind"]
            choice.reason = form["reason-of-death"]
            choice.failure = form.all("failure").first
        } else {
            choice.ids = form.all("id").compactMap { Int64($0) }
            guard let ids = choice.ids, (1...1000).contains(ids.count) else {
                throw Refusal.wrong("Choose 1 to 1,000 dead letters.")
            }
            if ids.count == 1 { return try await one(action, ids[0], why, exchange) }
        }
        guard let until = form.int64("until") else { throw Refusal.wrong("The form is not complete.") }
        choice.diedUntil = Date(timeIntervalSince1970: Double(until) / 1e6)
        let rate = form.int64("rate") ?? 100
        guard (1...5000).contains(rate) else {
            throw Refusal.wrong("The rate is 1 to 5,000 a second.")
        }
        let now = try await exchange.database { try await $0.now() }
        let wasAdded = await exchange.site.runs.add(
            BulkRun(
                id: 0,
                action: action,
                choice: choice,
                what: describe(choice),
                why: why,
                actor: exchange.actor,
                perSecond: Int(rate),
                began: now,
                expected: Int(max(0, min(form.int64("expected") ?? 0, Int64(dryRunCap))))
            )
        )
        guard wasAdded else {
            return exchange.done(
                "Too much is under way already; wait until some of it is done.",
                isFailure: true,
                to: Link("/dead-letters")
            )
        }
        return exchange.done("It begins.", to: Link("/dead-letters"))
    }

    private static func one(_ action: BulkAction, _ id: Int64, _ why: String, _ exchange: Exchange) async throws
        -> WebAnswer
    {
        switch action {
        case .redrive:
            let was = try await exchange.database { try await $0.redrive(id: id, why: why, actor: exchange.actor) }
            return exchange.done(
                was ? "The job is back among the waiting." : "It is not a dead letter any more.",
                isFailure: !was,
                to: Link("/jobs", id: id)
            )
        case .purge:
            let was = try await exchange.database { try await $0.purge(id: id, why: why, actor: exchange.actor) }
            return exchange.done(
                was ? "Job \(id) is deleted for good." : "It is not a dead letter any more.",
                isFailure: !was,
                to: Link("/dead-letters")
            )
        }
    }

    @Sendable static func stop(_ exchange: Exchange) async throws -> WebAnswer {
        let was = await exchange.site.runs.stop(exchange.request.form.int64("run") ?? 0, by: exchange.actor)
        return exchange.done(
            was ? "It stops." : "It was over already.",
            isFailure: !was,
            to: Link("/dead-letters")
        )
    }
}

extension Date {
    /// Since 1970, as the database counts: what was read compares equal when it is sent back.
    fileprivate var microseconds: Int64 { Int64((timeIntervalSince1970 * 1e6).rounded()) }
}
