import BreakwaterAdmin

/// Queues and kinds: how many jobs they have, how old these are, and whether they are paused.
enum QueuesPage {
    @Sendable static func show(_ exchange: Exchange) async throws -> WebAnswer {
        let (backlog, pauses, now) = try await exchange.database { admin in
            (try await admin.backlog(), try await admin.pauses(), try await admin.now())
        }
        let queues = Set(backlog.map(\.queue)).union(pauses.filter { $0.scope == "queue" }.map(\.name)).sorted()
        let kinds = Set(backlog.map(\.kind)).union(pauses.filter { $0.scope == "kind" }.map(\.name)).sorted()
        return try await exchange.page("Queues", .queues, now: now) { layout in
            el(.h1, text: "Queues and kinds")
            if backlog.isEmpty {
                el(.p, .class("empty"), text: "There are no jobs, and no worker takes any.")
            } else {
                el(.section, .class("panel")) {
                    table(backlog, cap: AdminDatabase.countCap)
                    if backlog.count >= AdminDatabase.nameCap {
                        el(
                            .p,
                            text: "There are more than these \(AdminDatabase.nameCap) queues and kinds. "
                                + "Those that workers have handled come first; the view breakwater.depth has all."
                        )
                    }
                }
            }
            if !queues.isEmpty || !kinds.isEmpty {
                el(.div, .class("columns")) {
                    switches("Queues", "queue", queues, pauses, layout, exchange)
                    switches("Kinds", "kind", kinds, pauses, layout, exchange)
                }
            }
        }
    }

    /// A table of depths and ages.
    static func table(_ lines: [Backlog], cap: Int) -> HTML {
        el(.div, .class("scroll")) {
            el(.table) {
                el(.thead) {
                    el(.tr) {
                        el(.th, .named("scope", "col"), text: "Kind")
                        el(.th, .named("scope", "col"), text: "Queue")
                        for name in [
                            "Ready", "Oldest", "Running", "Scheduled", "Retrying", "Behind a key", "Waits for jobs",
                        ] {
                            el(.th, .named("scope", "col"), .class("number"), text: name)
                        }
                    }
                }
                el(.tbody) {
                    for line in lines {
                        el(.tr) {
                            el(.th, .named("scope", "row")) {
                                el(.a, .href(jobs(line, nil)), text: line.kind)
                            }
                            el(.td, .named("data-label", "Queue"), text: line.queue)
                            number("Ready", line.ready, cap, jobs(line, .ready))
                            el(.td, .named("data-label", "Oldest"), .class("number"), text: line.oldest?.short ?? "–")
                            number("Running", line.running, cap, jobs(line, .running))
                            number("Scheduled", line.scheduled, cap, jobs(line, .scheduled))
                            number("Retrying", line.retrying, cap, jobs(line, .retrying))
                            number("Behind a key", line.parked, cap, jobs(line, .parked))
                            number("Waits for jobs", line.dependent, cap, jobs(line, .dependent))
                        }
                    }
                }
            }
        }
    }

    private static func number(_ name: String, _ count: Int, _ cap: Int, _ link: Link) -> HTML {
        el(.td, .named("data-label", name), .class("number")) {
            if count == 0 {
                el(.span, .class("zero"), text: "0")
            } else {
                el(.a, .href(link), text: count.grouped(cap: cap))
            }
        }
    }

    private static func jobs(_ line: Backlog, _ state: JobFilter.State?) -> Link {
        Link("/jobs").with("queue", line.queue).with("kind", line.kind).with("state", state?.rawValue)
    }

    private static func switches(
        _ title: String,
        _ scope: String,
        _ names: [String],
        _ pauses: [Pause],
        _ layout: Layout,
        _ exchange: Exchange
    ) -> HTML {
        el(.section, .class("panel")) {
            el(.h2, text: title)
            el(.ul, .class("plain lines")) {
                for (place, name) in names.enumerated() {
                    let pause = pauses.first { $0.scope == scope && $0.name == name }
                    el(.li) {
                        el(.div, .class("head")) {
                            el(.strong, .class("name"), text: name)
                            if let pause {
                                el(.span, .class("badge is-warn"), text: "Paused")
                                el(.span, .class("sub")) {
                                    "by \(pause.actor), "
                                    stamp(pause.since)
                                    ": \(pause.reason)"
                                }
                            }
                        }
                        if exchange.mayAct { toggle(scope, name, place, isPaused: pause != nil, layout) }
                    }
                }
            }
        }
    }

    private static func toggle(_ scope: String, _ name: String, _ place: Int, isPaused: Bool, _ layout: Layout) -> HTML
    {
        if isPaused {
            return layout.form(Link("/queues/resume")) {
                hidden("scope", scope)
                hidden("name", name)
                el(.button, .label("Resume the \(scope) \(name)"), text: "Resume")
            }
        }
        return el(.details, .class("act"), .id("pause-\(scope)-\(place)")) {
            el(.summary, .class("button"), .label("Pause the \(scope) \(name)"), text: "Pause")
            layout.form(Link("/queues/pause"), class: "sheet") {
                hidden("scope", scope)
                hidden("name", name)
                el(.p, .class("sub"), text: "Nothing of it is claimed until it is resumed. What runs goes on.")
                reasonField()
                el(.button, .class("primary"), text: "Pause")
            }
        }
    }

    // MARK: - Acting

    private static func target(_ exchange: Exchange) throws -> PauseTarget {
        let name = try exchange.name()
        switch exchange.request.form["scope"] {
        case "queue": return .queue(name)
        case "kind": return .kind(name)
        default: throw Refusal.wrong("Only queues and kinds can be paused.")
        }
    }

    @Sendable static func pause(_ exchange: Exchange) async throws -> WebAnswer {
        let (target, reason) = (try target(exchange), try exchange.need("reason", "The reason"))
        try await exchange.database { try await $0.pause(target, reason: reason, actor: exchange.actor) }
        return exchange.done("The \(target.description) is paused.", to: Link("/queues"))
    }

    @Sendable static func resume(_ exchange: Exchange) async throws -> WebAnswer {
        let (target, reason) = (try target(exchange), try exchange.reason())
        let was = try await exchange.database { try await $0.resume(target, reason: reason, actor: exchange.actor) }
        return exchange.done(
            was ? "The \(target.description) goes on." : "The \(target.description) was not paused.",
            isFailure: !was,
            to: Link("/queues")
        )
    }
}
