import BreakwaterAdmin
import Foundation

extension CircuitEvidence {
    /// The most probes that are shown.
    private static let mostProbes = 20
    /// The most characters of a message that are shown, as on the page of dead letters.
    private static let longestError = 300

    /// Panels about why the circuit opened and how the latest probes ended, as far as that is known.
    @HTMLBuilder func panels(now: Date) -> HTML {
        if let opening { panel(opening, now: now) }
        if let round { panel(round, now: now) }
    }

    private func panel(_ opening: Opening, now: Date) -> HTML {
        el(.section, .class("panel"), .id("why")) {
            el(.h2, text: opening.reason.hasPrefix("would have opened") ? "Why it would have opened" : "Why it opened")
            el(.p) {
                ago(opening.at, now: now)
                if let actor = opening.actor { " by \(actor)" }
                ": "
                el(.span, .class("reason"), text: opening.reason)
            }
            if let commonValue = opening.commonValue {
                el(.p, .class("notice is-warn")) {
                    "\(commonValue.finding): "
                    el(.code, text: commonValue.remedy)
                    " would keep the others running."
                }
            }
            if !opening.failures.isEmpty {
                el(.p, .class("error")) {
                    "Failures: "
                    opening.failures.map { "\($0.name) (\($0.count.grouped))" }.joined(separator: ", ")
                }
            }
            if opening.repeats > 0 {
                el(.p, .class("sub")) {
                    "\(opening.repeats.grouped) of these are not counted: their jobs had failed before, and others succeeded."
                }
            }
            if !opening.workers.isEmpty {
                el(.p, .class("sub")) {
                    "Seen by "
                    opening.workers.map { "\($0.name ?? "worker \($0.worker)") (\($0.count.grouped))" }
                        .joined(separator: ", ")
                }
            }
            if !opening.examples.isEmpty {
                el(.ul, .class("plain lines")) {
                    for example in opening.examples {
                        el(.li) {
                            el(.div, .class("head")) {
                                job(example.job)
                                if let at = example.at { ago(at, now: now) }
                                error(example.name, example.message)
                            }
                        }
                    }
                }
            }
        }
    }

    private func panel(_ round: Round, now: Date) -> HTML {
        el(.section, .class("panel"), .id("probes")) {
            el(.h2, text: "The latest probes")
            el(.p) {
                if let at = round.at, let to = round.to, let reason = round.reason {
                    CircuitFace(to).title
                    " "
                    ago(at, now: now)
                    ": "
                    el(.span, .class("reason"), text: reason)
                } else {
                    "No verdict yet."
                }
            }
            el(.ul, .class("plain lines")) {
                for probe in round.probes.suffix(Self.mostProbes) {
                    el(.li) {
                        el(.div, .class("head")) {
                            job(probe.job)
                            el(
                                .span,
                                .class(probe.outcome == "succeeded" ? "badge is-good" : "badge is-bad"),
                                text: probe.outcome
                            )
                            if let worker = probe.workerName ?? probe.worker.map({ "worker \($0)" }) { "on \(worker)" }
                            if let at = probe.at { ago(at, now: now) }
                            error(probe.name, probe.message)
                        }
                    }
                }
            }
            if round.probes.count > Self.mostProbes {
                el(.p, .class("sub"), text: "The first \(round.probes.count - Self.mostProbes) are left out.")
            }
        }
    }

    private func job(_ id: Int64) -> HTML { el(.a, .href(Link("/jobs", id: id)), text: "Job \(id)") }

    @HTMLBuilder private func error(_ name: String?, _ message: String?) -> HTML {
        let text = [name, message].compactMap(\.self).filter { !$0.isEmpty }.joined(separator: ": ")
        if !text.isEmpty { el(.span, .class("sub block error"), text: String(text.prefix(Self.longestError))) }
    }
}
