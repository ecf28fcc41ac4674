import BreakwaterAdmin
import Foundation

/// What is known of a circuit, for its picture.
struct CircuitView: Sendable {
    var status: CircuitStatus
    var window: CircuitWindowParts
    /// Of the last hour.
    var transitions: [CircuitTransition]

    /// Reads what belongs to these circuits.
    static func read(_ statuses: [CircuitStatus], _ admin: AdminDatabase) async throws -> [CircuitView] {
        let recent = Dictionary(
            grouping: try await admin.transitions(of: statuses.map(\.id), within: .seconds(3600), limit: 1000),
            by: { $0.circuit }
        )
        let windows = try await admin.windows(of: statuses.map(\.id), parts: 40)
        return statuses.map { status in
            CircuitView(
                status: status,
                window: windows[status.id] ?? CircuitWindowParts(),
                transitions: recent[status.id] ?? []
            )
        }
    }

    var face: CircuitFace { CircuitFace(status.state) }
    var link: Link { Self.link(status.id) }

    static func link(_ id: CircuitID) -> Link {
        Link("/circuits/one").with("kind", id.kind).with("key", id.key)
    }

    /// Its state in a word or two.
    var stateTitle: String {
        switch status.override {
        case "open": "Held open"
        case "closed": "Held closed"
        case "disabled": "Switched off"
        case "metrics_only": "Only counting"
        default: face.title
        }
    }

    /// Where jobs stand, and when what happens next.
    @HTMLBuilder var next: HTML {
        if let until = status.overrideUntil {
            "until "
            stamp(until)
        } else if status.override != nil {
            "until somebody resets it"
        } else {
            switch face {
            case .open: countdown(status.nextProbeIn ?? .zero, then: "due now")
            case .halfOpen:
                "\(status.probesOut) of \(status.policy.probes ?? 1) out, "
                "\(status.probesSucceeded) of \(status.policy.successesToClose ?? 1) good"
            case .closed: "none needed"
            }
        }
    }

    var ruleText: String {
        if let calls = window.calls { return "the last \(calls.of("call"))" }
        return "the last \(Duration.seconds(window.seconds ?? 60).short)"
    }

    /// The window as columns.
    var columns: HTML {
        Pictures.window(
            window.parts,
            label:
                "Calls in \(ruleText): \(status.calls), of which \(status.failed) failed and \(status.slow) were slow"
        )
    }

    /// The state over the last hour.
    func history(now: Date, hours: Double = 1, transitions: [CircuitTransition]? = nil) -> HTML {
        let from = now.addingTimeInterval(-hours * 3600)
        let stretches = Stretch.of(transitions ?? self.transitions, state: status.state, from: from, to: now)
        let open = stretches.reduce(0) { $0 + ($1.state == "closed" ? 0 : $1.to - $1.from) }
        let length = Duration.seconds(hours * 3600)
        return Pictures.history(
            stretches,
            label: "The last \(length.short): not closed for \(Duration.seconds(open * hours * 3600).short) of it"
        )
    }

    /// How near the window is to what opens the circuit.
    @HTMLBuilder var gauges: HTML {
        let policy = status.policy
        if let threshold = policy.failureRate {
            gauge(
                "Failed",
                status.failureRate ?? 0,
                threshold,
                "\((status.failureRate ?? 0).percent), opens at \(threshold.percent)"
            )
        }
        if let threshold = policy.slowRate {
            gauge(
                "Slow",
                status.slowRate ?? 0,
                threshold,
                "\((status.slowRate ?? 0).percent), opens at \(threshold.percent)"
            )
        }
        if let threshold = policy.consecutiveFailures, threshold > 0 {
            gauge(
                "In a row",
                Double(status.failuresInARow) / Double(threshold),
                1,
                "\(status.failuresInARow) failed, opens at \(threshold)"
            )
        }
        if let minimum = policy.minimumCalls, policy.failureRate != nil || policy.slowRate != nil {
            gauge(
                "Calls",
                Double(status.calls) / Double(max(minimum, 1)),
                nil,
                status.calls < minimum
                    ? "\(status.calls.grouped), of \(minimum) needed to judge"
                    : "\(status.calls.grouped), enough to judge"
            )
        }
    }

    private func gauge(_ name: String, _ value: Double, _ threshold: Double?, _ text: String) -> HTML {
        el(.div, .class("measure")) {
            el(.span, .class("name"), text: name)
            Pictures.gauge(value, threshold: threshold, label: "\(name): \(text)")
            el(.span, .class("text"), text: text)
        }
    }

    /// A circuit that is not closed, large.
    func card(now: Date, heading: Tag = .h2) -> HTML {
        el(.article, .class("circuit is-\(face.rawValue)")) {
            el(.header) {
                Pictures.lever(status.state)
                el(.div, .class("head")) {
                    el(heading) { el(.a, .href(link), .class("name"), text: status.name) }
                    el(.p) {
                        el(.strong, .class("state"), text: stateTitle)
                        " since "
                        ago(status.since, now: now)
                        if let actor = status.overrideActor { " by \(actor)" }
                    }
                }
            }
            el(.p, .class("reason"), text: status.reason)
            el(.dl, .class("facts")) {
                fact("Next probe") { next }
                fact("Jobs waiting") { waiting }
                if status.reopened > 0 { fact("Opened again") { status.reopened.of("time") } }
            }
            el(.div, .class("picture")) {
                columns
                el(.p, .class("caption"), text: caption)
            }
            el(.div, .class("gauges")) { gauges }
            el(.div, .class("picture")) {
                history(now: now)
                el(.p, .class("caption")) { "The last hour" }
            }
        }
    }

    var caption: String {
        "\(status.calls.of("call")) in \(ruleText): \(status.failed.grouped) failed, \(status.slow.grouped) slow"
    }

    /// How many jobs wait, with a link to them.
    @HTMLBuilder var waiting: HTML {
        if status.waiting == 0 {
            "none"
        } else if status.id.kind == "*" {
            status.waiting.grouped(cap: AdminDatabase.countCap)
        } else {
            el(
                .a,
                .href(
                    Link("/jobs").with("kind", status.id.kind).with("state", status.id.key.isEmpty ? "ready" : "parked")
                ),
                text: status.waiting.grouped(cap: AdminDatabase.countCap)
            )
        }
    }
}

/// A line of a list of facts.
func fact(_ name: String, @HTMLBuilder _ content: () -> HTML) -> HTML {
    el(.div) {
        el(.dt, text: name)
        el(.dd, content: content)
    }
}
