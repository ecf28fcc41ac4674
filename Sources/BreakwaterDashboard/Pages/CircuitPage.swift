import BreakwaterAdmin
import Foundation

/// One circuit: its window, its rules, its history, and what a user may do to it.
enum CircuitPage {
    @Sendable static func show(_ exchange: Exchange) async throws -> WebAnswer {
        let id = CircuitID(kind: exchange.request.query["kind"] ?? "", key: exchange.request.query["key"] ?? "")
        let (found, evidence, day, latest, now) = try await exchange.database { admin in
            let statuses = try await admin.someCircuits(id, limit: 1)
            return (
                try await CircuitView.read(statuses, admin).first,
                try await admin.evidence(of: id),
                try await admin.transitions(of: [id], within: .seconds(86_400), limit: 2000),
                try await admin.transitions(kind: id.kind, key: id.key, limit: 50),
                try await admin.now()
            )
        }
        guard let view = found else { throw Refusal.notFound("There is no such circuit.") }
        let status = view.status
        return try await exchange.page(status.name, .circuits, now: now) { layout in
            el(.p, .class("trail")) { el(.a, .href(Link("/circuits")), text: "Circuits") }
            el(.header, .class("title is-\(view.face.rawValue)")) {
                Pictures.lever(status.state)
                el(.div) {
                    el(.h1, text: status.name)
                    el(.p) {
                        el(.strong, .class("state"), text: view.stateTitle)
                        view.lasted
                        ": "
                        el(.span, .class("reason"), text: status.reason)
                    }
                }
            }
            el(.dl, .class("facts")) {
                fact(status.override == nil ? "Next probe" : "Held") { view.next }
                fact("Jobs waiting") { view.waiting }
                fact("Opened again") { status.reopened == 0 ? "not yet" : status.reopened.of("time") }
                fact("Generation") { "\(status.generation)" }
                fact("Incidents") {
                    el(
                        .a,
                        .href(Link("/incidents").with("kind", status.id.kind).with("key", status.id.key)),
                        text: "show them"
                    )
                }
                if !status.sharedBy.isEmpty { fact("Shared by") { status.sharedBy.joined(separator: ", ") } }
                if let fallback = status.policy.fallback { fact("While open, jobs") { words(forFallback: fallback) } }
            }
            if exchange.mayAct { actions(status, layout) }
            evidence.panels(now: now)
            el(.section, .class("panel")) {
                el(.h2, text: view.face == .closed ? "The window" : "The window when it opened")
                el(.div, .class("picture large")) { view.columns }
                el(.p, .class("caption")) {
                    view.caption
                    if let threshold = status.policy.failureRate {
                        el(.span, .class("block")) {
                            "Hatched: failed. The line in a column: where \(threshold.percent) of its calls would be."
                        }
                    }
                }
                el(.div, .class("gauges wide")) { view.gauges }
            }
            if !status.suspensions.isEmpty {
                el(.section, .class("panel")) {
                    el(.h2, text: "Suspended workers")
                    el(.p, .class("sub")) {
                        "Their calls failed while those of others succeeded. The circuit stays closed for the rest."
                    }
                    el(.ul, .class("plain")) {
                        for suspension in status.suspensions {
                            el(.li) {
                                el(.strong, text: suspension.workerName ?? "worker \(suspension.worker)")
                                ": \(suspension.reason); one job to try again "
                                countdown(suspension.endsIn, then: "now")
                            }
                        }
                    }
                }
            }
            el(.section, .class("panel")) {
                el(.h2, text: "History")
                el(.div, .class("picture")) {
                    view.history(now: now, hours: 24, transitions: day)
                    el(.p, .class("caption")) { "The last 24 hours. Full height: open; half: half-open; low: closed." }
                }
                timeline(latest, now: now)
            }
        }
    }

    private static func words(forFallback fallback: String) -> String {
        switch fallback {
        case "hold": "wait"
        case "dead_letter": "become dead letters"
        case "succeed": "succeed with a set result"
        case "reroute": "go to another kind"
        default: fallback
        }
    }

    private static func timeline(_ transitions: [RecordedTransition], now: Date) -> HTML {
        guard !transitions.isEmpty else { return el(.p, .class("empty"), text: "It has always been closed.") }
        return el(.ol, .class("timeline")) {
            for transition in transitions {
                let face = CircuitFace(transition.to)
                el(.li, .class("is-\(face.rawValue)")) {
                    Pictures.lever(transition.to)
                    el(.div) {
                        el(.p) {
                            el(.strong, text: transition.from == transition.to ? "Noted" : face.title)
                            " "
                            ago(transition.at, now: now)
                            if let actor = transition.actor { " by \(actor)" }
                        }
                        el(.p, .class("sub")) {
                            transition.reasonWithEvidence
                            if let worker = transition.workerName ?? transition.worker.map({ "worker \($0)" }) {
                                " (\(worker))"
                            }
                        }
                    }
                }
            }
        }
    }

    // MARK: - Acting

    private static func actions(_ status: CircuitStatus, _ layout: Layout) -> HTML {
        el(.div, .class("actions")) {
            for change in Change.allCases where change.applies(to: status) {
                el(.details, .class("act"), .id("act-\(change.rawValue)")) {
                    el(.summary, .class(change.isGrave ? "button is-grave" : "button"), text: change.title)
                    layout.form(Link("/circuits/change"), class: "sheet") {
                        hidden("change", change.rawValue)
                        hidden("kind", status.id.kind)
                        hidden("key", status.id.key)
                        el(.p, .class("sub"), text: change.effect)
                        reasonField()
                        if change.lasts { until }
                        el(.button, .class(change.isGrave ? "primary is-grave" : "primary"), text: change.title)
                    }
                }
            }
        }
    }

    /// A field for how long an override lasts.
    private static let until = el(.label) {
        "Until"
        el(.select, .name("for")) {
            el(.option, .value(""), text: "somebody resets it")
            for (seconds, text) in [
                (900, "in 15 minutes"), (3600, "in 1 hour"), (28_800, "in 8 hours"), (86_400, "in a day"),
            ] {
                el(.option, .value("\(seconds)"), text: text)
            }
        }
    }

    /// What a user can do to a circuit.
    enum Change: String, CaseIterable {
        case probe, close, open, reset, observe, disable

        /// Whether the change makes sense for a circuit. A probe needs an open circuit without an override.
        func applies(to status: CircuitStatus) -> Bool {
            self != .probe || (status.state == "open" && status.override == nil)
        }

        /// Whether the change can have an end time.
        var lasts: Bool { manualChange != nil && self != .reset }

        var title: String {
            switch self {
            case .probe: "Probe now"
            case .close: "Force closed"
            case .open: "Force open"
            case .reset: "Reset"
            case .observe: "Only count"
            case .disable: "Switch off"
            }
        }

        /// The effect of the change.
        var effect: String {
            switch self {
            case .probe: "Ends the open time: the next jobs are probes, and decide."
            case .close: "Its jobs run, whatever comes of them. Attempts are spent."
            case .open: "Nothing of it runs anywhere. Its jobs wait and spend nothing."
            case .reset: "Ends what holds it, forgets all counts, and starts over as closed."
            case .observe: "Its jobs run; the history says when it would have opened."
            case .disable: "Its jobs run, and nothing is counted."
            }
        }

        var isGrave: Bool { self == .open }

        /// The manual change that the button makes; nil if it sets none.
        fileprivate var manualChange: ManualCircuitChange? {
            switch self {
            case .probe: nil
            case .close: .close
            case .open: .open
            case .reset: .reset
            case .observe: .observe
            case .disable: .disable
            }
        }

        fileprivate var done: String {
            switch self {
            case .probe: "is half-open, and is probed now"
            case .close: "is held closed"
            case .open: "is held open"
            case .reset: "starts over as closed"
            case .observe: "only counts"
            case .disable: "is switched off"
            }
        }
    }

    @Sendable static func change(_ exchange: Exchange) async throws -> WebAnswer {
        let form = exchange.request.form
        guard let change = form["change"].flatMap(Change.init) else { throw Refusal.wrong("No such change.") }
        let id = CircuitID(kind: form["kind"] ?? "", key: form["key"] ?? "")
        let reason = try exchange.need("reason", "The reason")
        let seconds = form.int64("for")
        guard seconds.map({ (1...2_592_000).contains($0) }) ?? true else {
            throw Refusal.wrong("It can be held for at most 30 days; leave the time out for no end.")
        }
        let name = try await exchange.database { admin in
            if let manualChange = change.manualChange {
                try await admin.change(
                    id,
                    manualChange,
                    reason: reason,
                    actor: exchange.actor,
                    for: change.lasts ? seconds.map { .seconds($0) } : nil
                )
            } else {
                try await admin.probe(id, reason: reason, actor: exchange.actor)
            }
            return try await admin.someCircuits(id, limit: 1).first?.name ?? id.kind
        }
        return exchange.done("The circuit of \(name) \(change.done).", to: CircuitView.link(id))
    }
}
