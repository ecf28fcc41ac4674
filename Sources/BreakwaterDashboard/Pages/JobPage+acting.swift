import BreakwaterAdmin
import Foundation

/// The actions on one job.
extension JobPage {
    /// The forms that act on a job that waits or runs.
    static func actions(_ job: JobStatus, _ layout: Layout) -> HTML {
        el(.div, .class("actions")) {
            if job.state != "running" { changes(job, layout) }
            el(.details, .class("act"), .id("act-cancel")) {
                el(.summary, .class("button is-grave"), text: "Cancel")
                layout.form(Link("/jobs", id: job.id, "cancel"), class: "sheet") {
                    el(
                        .p,
                        .class("sub"),
                        text: job.state == "running"
                            ? "Its worker ends the run. Then it goes to the dead letters, unless it succeeds first."
                            : "It goes to the dead letters; from there it can be put back."
                    )
                    reasonField(isRequired: false)
                    el(.button, .class("primary is-grave"), text: "Cancel the job")
                }
            }
        }
    }

    /// What a user may do with a job that does not run, beside cancelling it.
    @HTMLBuilder private static func changes(_ job: JobStatus, _ layout: Layout) -> HTML {
        if job.runAt != nil {
            layout.form(Link("/jobs", id: job.id, "run-now")) { el(.button, .class("primary"), text: "Run now") }
        }
        if ["circuit_open", "circuit_half_open", "paused"].contains(job.state) {
            el(.details, .class("act"), .id("act-through")) {
                el(.summary, .class("button"), text: "Send through")
                layout.form(Link("/jobs", id: job.id, "run-through"), class: "sheet") {
                    el(
                        .p,
                        .class("sub"),
                        text:
                            "A test shot: it runs now, past the circuit and any pause. Its circuit counts it as a probe."
                    )
                    reasonField(isRequired: false)
                    el(.button, .class("primary"), text: "Send it through")
                }
            }
        }
        el(.details, .class("act"), .id("act-priority")) {
            el(.summary, .class("button"), text: "Priority")
            layout.form(Link("/jobs", id: job.id, "priority"), class: "sheet") {
                el(.label) {
                    "Priority, 0 runs first"
                    el(.select, .name("priority")) {
                        for priority in 0...9 {
                            el(
                                .option,
                                .value("\(priority)"),
                                .flag("selected", priority == job.priority),
                                text: "\(priority)"
                            )
                        }
                    }
                }
                reasonField(isRequired: false)
                el(.button, .class("primary"), text: "Set")
            }
        }
    }

    @Sendable static func runNow(_ exchange: Exchange) async throws -> WebAnswer {
        let reason = try exchange.reason()
        let (was, why) = try await exchange.database { admin -> (Bool, String?) in
            guard try await admin.runNow(id: exchange.id, reason: reason, actor: exchange.actor) else {
                return (false, nil)
            }
            return (true, try await admin.whyWaits(id: exchange.id))
        }
        return exchange.done(
            was
                ? why.map { "The job is ready, but still waits: \($0)" } ?? "The job is ready."
                : "The job does not wait for its time.",
            isFailure: !was,
            to: Link("/jobs", id: exchange.id)
        )
    }

    @Sendable static func runThrough(_ exchange: Exchange) async throws -> WebAnswer {
        let reason = try exchange.reason()
        let was = try await exchange.database {
            try await $0.runThrough(id: exchange.id, reason: reason, actor: exchange.actor)
        }
        return exchange.done(
            was ? "The job is sent through." : "The job does not wait any more.",
            isFailure: !was,
            to: Link("/jobs", id: exchange.id)
        )
    }

    @Sendable static func cancel(_ exchange: Exchange) async throws -> WebAnswer {
        let reason = try exchange.reason()
        let (was, isRunning) = try await exchange.database { admin in
            let was = try await admin.cancel(id: exchange.id, reason: reason, actor: exchange.actor)
            if case .waitsOrRuns? = try await admin.story(ofJob: exchange.id) { return (was, true) }
            return (was, false)
        }
        return exchange.done(
            !was
                ? "The job has ended."
                : isRunning
                    ? "The job runs; its worker was asked to cancel it."
                    : "The job is cancelled: it is a dead letter now.",
            isFailure: !was,
            to: Link("/jobs", id: exchange.id)
        )
    }

    @Sendable static func setPriority(_ exchange: Exchange) async throws -> WebAnswer {
        let reason = try exchange.reason()
        guard let priority = exchange.request.form.int64("priority"), (0...9).contains(priority) else {
            throw Refusal.wrong("A priority is 0 to 9.")
        }
        let was = try await exchange.database {
            try await $0.setPriority(id: exchange.id, to: Int(priority), reason: reason, actor: exchange.actor)
        }
        return exchange.done(
            was ? "The job has the priority \(priority)." : "The job runs right now, or has ended.",
            isFailure: !was,
            to: Link("/jobs", id: exchange.id)
        )
    }
}
