import BreakwaterAdmin
import Foundation

/// The data for the picture of a circuit.
struct CircuitView: Sendable {
    var status: CircuitStatus
    var window: CircuitWindowParts
    /// The transitions of the last hour.
    var transitions: [RecordedTransition]

    /// Reads the windows and transitions of these circuits.
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

    /// The circuit's state in a word or two.
    var stateTitle: String {
        switch status.override {
        case "open": "Held open"
        case "closed": "Held closed"
        case "disabled": "Switched off"
        case "metrics_only": "Only counting"
        default: face.title
        }
    }

    /// Whether the window shown is the one at the time of opening.
    private var isPast: Bool { face != .closed }

    /// The sums over the window that is shown.
    private var sums: CallCounts {
        guard isPast else {
            return CallCounts(succeeded: status.calls - status.failed, failed: status.failed, slow: status.slow)
        }
        return window.parts.reduce(into: CallCounts(succeeded: 0, failed: 0, slow: 0)) {
            $0.succeeded += $1.succeeded
            $0.failed += $1.failed
            $0.slow += $1.slow
        }
    }

    /// When the next probe or the end of the override is due, or how the probes stand.
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
    var columns: HTML { Pictures.window(window.parts, threshold: status.policy.failureRate, label: caption) }

    /// The state over the last hour.
    func history(now: Date, hours: Double = 1, transitions: [RecordedTransition]? = nil) -> HTML {
        let from = now.addingTimeInterval(-hours * 3600)
        let stretches = Stretch.of(transitions ?? self.transitions, state: status.state, from: from, to: now)
        let open = stretches.reduce(0) { $0 + ($1.state == "closed" ? 0 : $1.to - $1.from) }
        let length = Duration.seconds(hours * 3600)
        return Pictures.history(
            stretches,
            label: "The last \(length.short): not closed for \(Duration.seconds(open * hours * 3600).short) of it"
        )
    }

    /// Gauges that compare the window with the thresholds at which the circuit opens.
    @HTMLBuilder var gauges: HTML {
        let (policy, sums) = (status.policy, sums)
        let calls = sums.succeeded + sums.failed
        if let threshold = policy.failureRate, !isPast || calls > 0 {
            let rate = calls > 0 ? Double(sums.failed) / Double(calls) : 0
            gauge("Failed", rate, threshold, "\(rate.percent), opens at \(threshold.percent)")
        }
        if let threshold = policy.slowRate, !isPast || calls > 0 {
            let rate = calls > 0 ? Double(sums.slow) / Double(calls) : 0
            gauge("Slow", rate, threshold, "\(rate.percent), opens at \(threshold.percent)")
        }
        if !isPast {
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
                    Double(calls) / Double(max(minimum, 1)),
                    nil,
                    calls < minimum
                        ? "\(calls.grouped), of \(minimum) needed to judge" : "\(calls.grouped), enough to judge"
                )
            }
        } else if face == .halfOpen {
            let needed = policy.successesToClose ?? 1
            gauge(
                "Probes",
                Double(status.probesSucceeded) / Double(max(needed, 1)),
                1,
                "\(status.probesSucceeded) good, closes at \(needed)"
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

    /// The reason of the first opening, if the circuit has opened again since.
    private var firstReason: String? {
        guard face != .closed, status.override == nil else { return nil }
        let first = transitions.filter { $0.from == "closed" && $0.to == "open" }.max { $0.generation < $1.generation }
        return first.flatMap { $0.reason == status.reason ? nil : $0.reason }
    }

    /// How long the circuit has been in this state.
    var lasted: HTML {
        group {
            " for "
            el(.time, .named("title", "since \(status.since.stamp)"), text: status.age.short)
            if let actor = status.overrideActor { " by \(actor)" }
        }
    }

    /// The large card of a circuit that is not closed.
    func card(now: Date, heading: Tag = .h2) -> HTML {
        el(.div, .class("frame")) {
            el(.article, .class("circuit is-\(face.rawValue)")) {
                el(.div, .class("half")) {
                    el(.header) {
                        Pictures.lever(status.state)
                        el(.div, .class("head")) {
                            el(heading) { el(.a, .href(link), .class("name"), text: status.name) }
                            el(.p) {
                                el(.strong, .class("state"), text: stateTitle)
                                lasted
                            }
                        }
                    }
                    el(.p, .class("reason")) {
                        status.reason
                        if let firstReason { el(.span, .class("sub block"), text: "At first: \(firstReason)") }
                    }
                    el(.dl, .class("facts")) {
                        fact(status.override == nil ? "Next probe" : "Held") { next }
                        fact("Jobs waiting") { waiting }
                        if status.reopened > 0 { fact("Opened again") { status.reopened.of("time") } }
                    }
                }
                el(.div, .class("half")) {
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
        }
    }

    /// The window in words.
    var caption: String {
        let sums = sums
        let calls = sums.succeeded + sums.failed
        let when =
            if !isPast { "in \(ruleText)" } else if calls == 0 { "are remembered of when it opened" } else {
                "in \(ruleText) before it opened"
            }
        guard calls > 0 else { return "No calls \(when)" }
        return "\(calls.of("call")) \(when): \(sums.failed.grouped) failed, \(sums.slow.grouped) slow"
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

/// One fact in a list: a name and its value.
func fact(_ name: String, @HTMLBuilder _ content: () -> HTML) -> HTML {
    el(.div) {
        el(.dt, text: name)
        el(.dd, content: content)
    }
}
