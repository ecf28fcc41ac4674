import BreakwaterAdmin

/// The workers: their load, their heartbeats, their versions, and the circuits from which they are suspended.
enum WorkersPage {
    @Sendable static func show(_ exchange: Exchange) async throws -> WebAnswer {
        let (workers, suspensions, now) = try await exchange.database { admin in
            (try await admin.workers(), try await admin.suspensions(), try await admin.now())
        }
        return try await exchange.page("Workers", .workers, now: now) { layout in
            el(.h1, text: "Workers")
            if workers.isEmpty {
                el(.p, .class("empty")) { "There are no workers. Start one: worker run --config worker.yaml" }
            }
            el(.ul, .class("workers")) {
                for worker in workers {
                    let own = suspensions.filter { $0.worker == worker.id }
                    el(.li, .class("panel \(worker.isAlive ? "" : "is-open")")) {
                        el(.header) {
                            el(.h2, .class("name"), text: worker.name)
                            badges(worker)
                        }
                        el(.dl, .class("facts")) {
                            fact("Slots") {
                                "\(worker.running.grouped) of \(worker.concurrency.grouped) busy"
                                Pictures.gauge(
                                    Double(worker.running) / Double(max(worker.concurrency, 1)),
                                    threshold: nil,
                                    label: "\(worker.running) of \(worker.concurrency) slots are busy"
                                )
                            }
                            fact("Last beat") { "\(worker.silentFor.short) ago" }
                            fact("Version") { worker.version }
                            fact("Started") { ago(worker.startedAt, now: now) }
                            fact("Queues") { worker.queues.joined(separator: ", ") }
                            fact("Kinds") { worker.kinds.joined(separator: ", ") }
                        }
                        for suspension in own {
                            el(.p, .class("notice is-warn")) {
                                "Suspended from the circuit of "
                                el(.a, .href(CircuitView.link(suspension.circuit)), text: suspension.circuitName)
                                ", tries again "
                                countdown(suspension.endsIn, then: "now")
                                ": \(suspension.reason)"
                            }
                        }
                        if let reason = worker.drainReason {
                            el(.p, .class("notice is-warn"), text: "Drained: \(reason)")
                        }
                        if worker.unresponsive > 0 {
                            el(
                                .p,
                                .class("notice is-warn"),
                                text: "\(worker.unresponsive) runs go on although they were cancelled"
                            )
                        }
                        if exchange.mayAct, worker.isAlive { drainForm(worker, layout) }
                    }
                }
            }
        }
    }

    @HTMLBuilder private static func badges(_ worker: WorkerStatus) -> HTML {
        if !worker.isAlive { el(.span, .class("badge is-bad"), text: "Silent") }
        if worker.leads { el(.span, .class("badge"), .named("title", "does the fleet's chores"), text: "Leads") }
        if worker.state == "draining" { el(.span, .class("badge is-warn"), text: "Draining") }
    }

    private static func drainForm(_ worker: WorkerStatus, _ layout: Layout) -> HTML {
        if worker.drainReason != nil {
            return layout.form(Link("/workers", id: worker.id, "undrain")) {
                el(.button, .label("Let \(worker.name) claim again"), text: "Let it claim again")
            }
        }
        return el(.details, .class("act"), .id("drain-\(worker.id)")) {
            el(.summary, .class("button"), .label("Drain \(worker.name)"), text: "Drain")
            layout.form(Link("/workers", id: worker.id, "drain"), class: "sheet") {
                el(
                    .p,
                    .class("sub"),
                    text: "It claims nothing more, finishes what it runs, and goes on beating. Then it can be stopped."
                )
                reasonField()
                el(.button, .class("primary"), text: "Drain")
            }
        }
    }

    // MARK: - Acting

    @Sendable static func drain(_ exchange: Exchange) async throws -> WebAnswer {
        let reason = try exchange.need("reason", "The reason")
        let was = try await exchange.database {
            try await $0.drain(worker: exchange.id, reason: reason, actor: exchange.actor)
        }
        return exchange.done(
            was ? "The worker drains: it claims nothing more." : "The worker is gone.",
            isFailure: !was,
            to: Link("/workers")
        )
    }

    @Sendable static func undrain(_ exchange: Exchange) async throws -> WebAnswer {
        let reason = try exchange.reason()
        let was = try await exchange.database {
            try await $0.undrain(worker: exchange.id, reason: reason, actor: exchange.actor)
        }
        return exchange.done(
            was ? "The worker claims again." : "The worker was not drained.",
            isFailure: !was,
            to: Link("/workers")
        )
    }
}
