import BreakwaterAdmin
import Foundation

/// The actions on one dead letter or on many.
extension DeadLettersPage {
    /// The action that a form asks for, and the dead letters that it selects.
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

    /// Shows how many dead letters would be affected, and asks for the rate and the reason. Nothing is changed yet.
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
                                "At most this many a second"
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
                        reasonField()
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

    /// Changes a single dead letter at once and shows the outcome. Several become a bulk run.
    private static func begin(_ action: BulkAction, _ exchange: Exchange) async throws -> WebAnswer {
        let form = exchange.request.form
        var choice = DeadLetterChoice()
        let reason = try exchange.need("reason", "The reason")
        if form["scope"] == "matching" {
            choice.kind = form["kind"]
            choice.reason = form["reason-of-death"]
            choice.failure = form.all("failure").first
        } else {
            choice.ids = form.all("id").compactMap { Int64($0) }
            guard let ids = choice.ids, (1...1000).contains(ids.count) else {
                throw Refusal.wrong("Choose 1 to 1,000 dead letters.")
            }
            if ids.count == 1 { return try await one(action, ids[0], reason, exchange) }
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
                reason: reason,
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

    private static func one(_ action: BulkAction, _ id: Int64, _ reason: String, _ exchange: Exchange) async throws
        -> WebAnswer
    {
        switch action {
        case .redrive:
            let was = try await exchange.database {
                try await $0.redrive(id: id, reason: reason, actor: exchange.actor)
            }
            return exchange.done(
                was ? "The job is back among the waiting." : "It is not a dead letter any more.",
                isFailure: !was,
                to: Link("/jobs", id: id)
            )
        case .purge:
            let was = try await exchange.database { try await $0.purge(id: id, reason: reason, actor: exchange.actor) }
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
