import BreakwaterAdmin
import Foundation

/// The limits, ordered keys and fair shares, and what they hold back.
enum LimitsPage {
    @Sendable static func show(_ exchange: Exchange) async throws -> WebAnswer {
        let (limits, now) = try await exchange.database { admin in
            (try await admin.limits(), try await admin.now())
        }
        return try await exchange.page("Limits", .limits, now: now) { _ in
            el(.h1, text: "Limits")
            if limits.isEmpty {
                el(.p, .class("empty")) {
                    "Nothing is limited. Set one: worker limits set KIND --concurrency 5 --reason …"
                }
            } else {
                table(limits, now: now)
            }
        }
    }

    private static func table(_ limits: [LimitStatus], now: Date) -> HTML {
        el(.div, .class("scroll")) {
            el(.table) {
                el(.thead) {
                    el(.tr) {
                        for name in ["Name", "Kinds", "For each", "Allows"] {
                            el(.th, .named("scope", "col"), text: name)
                        }
                        for name in ["Running", "Held back"] {
                            el(.th, .named("scope", "col"), .class("number"), text: name)
                        }
                        el(.th, .named("scope", "col"), text: "Set by")
                    }
                }
                el(.tbody) { for limit in limits { row(limit, now: now) } }
            }
        }
    }

    private static func row(_ limit: LimitStatus, now: Date) -> HTML {
        el(.tr) {
            el(.th, .named("scope", "row")) {
                limit.name
                if limit.type != "limit" { el(.span, .class("badge"), text: limit.type) }
                if let halted = limit.haltedKeys, halted > 0 {
                    el(.span, .class("badge is-warn"), text: "\(halted.grouped) halted")
                }
            }
            el(.td, .named("data-label", "Kinds"), text: limit.kinds.joined(separator: ", "))
            el(.td, .named("data-label", "For each"), text: limit.key ?? "")
            el(.td, .named("data-label", "Allows")) {
                limit.allows
                if let until = limit.pausedUntil, until > now {
                    el(
                        .span,
                        .class("badge is-warn"),
                        text: "Paused for \(Duration.seconds(until.timeIntervalSince(now)).short)"
                    )
                }
            }
            el(.td, .named("data-label", "Running"), .class("number"), text: limit.running.grouped)
            el(.td, .named("data-label", "Held back"), .class("number"), text: limit.heldBack.grouped(cap: 10_000))
            el(.td, .named("data-label", "Set by")) {
                limit.source == "configuration" ? "configuration" : limit.actor ?? "?"
                if let reason = limit.reason { ": \(reason)" }
            }
        }
    }
}
