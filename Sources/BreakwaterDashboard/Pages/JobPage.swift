import BreakwaterAdmin
import Foundation

/// One job: its state and the reason, its history, its payload, and what a user may do with it.
enum JobPage {
    private struct Facts: Sendable {
        var story: JobStory
        var runs: [FailedRun]
        var done: [AuditEntry]
        var progress: JobProgress?
        /// The circuit that its kind's calls belong to.
        var circuit: CircuitID?
        var relations: [JobRelation]
        /// The batch whose callback it is.
        var batch: BatchStatus?
        var now: Date
    }

    @Sendable static func show(_ exchange: Exchange) async throws -> WebAnswer {
        let id = exchange.id
        let facts = try await exchange.database { admin -> Facts? in
            guard let story = try await admin.story(ofJob: id) else { return nil }
            var filter = AuditFilter()
            filter.target = "job \(id)"
            return Facts(
                story: story,
                runs: try await admin.failedRuns(errors(of: story)),
                done: try await admin.audit(filter, limit: 50),
                progress: try await admin.progress(ofJob: id),
                circuit: try await circuit(of: story, admin),
                relations: try await admin.relations(ofJob: id),
                batch: try await admin.batches(id: id).first,
                now: try await admin.now()
            )
        }
        guard let facts else {
            throw Refusal.notFound(
                "Nothing is known of a job \(id): it succeeded and its kind keeps no history, it was purged, or it never was."
            )
        }
        return try await exchange.page("Job \(id)", .jobs, now: facts.now) { layout in
            el(.p, .class("trail")) { el(.a, .href(Link("/jobs")), text: "Jobs") }
            switch facts.story {
            case .waitsOrRuns(let job): alive(job, facts, exchange.mayAct ? layout : nil)
            case .died(let letter): dead(letter, facts, exchange.mayAct ? layout : nil)
            case .succeeded(let success): succeeded(success, facts)
            case .finished(let job): finished(job, facts)
            }
        }
    }

    private static func circuit(of story: JobStory, _ admin: AdminDatabase) async throws -> CircuitID? {
        guard case .waitsOrRuns(let job) = story else { return nil }
        return try await admin.circuitID(kind: job.kind, key: nil)
    }

    private static func errors(of story: JobStory) -> String {
        switch story {
        case .waitsOrRuns(let job): job.errors
        case .died(let letter): letter.errors
        case .succeeded: "[]"
        case .finished(let job): job.errors
        }
    }

    /// A badge with the state and its colour.
    static func badge(_ state: String) -> HTML {
        let (title, cssClass) =
            switch state {
            case "ready": ("Ready", "")
            case "running": ("Running", "is-good")
            case "scheduled": ("Scheduled", "")
            case "dependent": ("Waits for others", "")
            case "retrying": ("Retrying", "is-warn")
            case "paused": ("Paused", "is-warn")
            case "circuit_open": ("Circuit open", "is-bad")
            case "circuit_half_open": ("Circuit half-open", "is-warn")
            case "no_handler": ("No worker", "is-warn")
            case "dead": ("Dead letter", "is-bad")
            case "succeeded": ("Succeeded", "is-good")
            default: (state, "")
            }
        return el(.span, .class("badge \(cssClass)"), text: title)
    }

    @HTMLBuilder private static func alive(_ job: JobStatus, _ facts: Facts, _ layout: Layout?) -> HTML {
        el(.header, .class("title")) {
            el(.div) {
                el(.h1) {
                    "Job \(job.id) "
                    badge(job.state)
                }
                el(.p, .class("reason"), text: job.why.withoutFractions)
            }
        }
        el(.dl, .class("facts")) {
            fact("Kind") { el(.a, .href(Link("/jobs").with("kind", job.kind)), text: job.kind) }
            fact("Queue") { job.queue }
            fact("Priority") { "\(job.priority)" }
            fact("Attempts") { "\(job.attempt)\(job.maxAttempts.map { " of \($0)" } ?? "")" }
            if let key = job.uniqueKey { fact("Unique key") { key } }
            if let runAt = job.runAt, runAt.timeIntervalSince1970.isFinite, runAt < .distantFuture {
                fact("Runs") { ago(runAt, now: facts.now) }
            }
            if let id = facts.circuit {
                fact("Circuit") { el(.a, .href(CircuitView.link(id)), text: id.kind == "*" ? id.key : id.kind) }
            }
        }
        if let layout, facts.progress?.cancelledAt == nil { actions(job, layout) }
        progress(facts)
        related(facts)
        payload(job.payload)
        timeline(facts, enqueuedAt: job.enqueuedAt, end: nil)
    }

    @HTMLBuilder private static func dead(_ letter: DeadLetter, _ facts: Facts, _ layout: Layout?) -> HTML {
        el(.header, .class("title")) {
            el(.div) {
                el(.h1) {
                    "Job \(letter.id) "
                    badge("dead")
                }
                el(.p, .class("reason")) {
                    "\(letter.reason)\(letter.lastError.map { ": \($0)" } ?? "")"
                }
            }
        }
        el(.dl, .class("facts")) {
            fact("Kind") { el(.a, .href(Link("/dead-letters").with("kind", letter.kind)), text: letter.kind) }
            fact("Queue") { letter.queue }
            fact("Priority") { "\(letter.priority)" }
            fact("Attempts") { "\(letter.attempt)\(letter.maxAttempts.map { " of \($0)" } ?? "")" }
            if let key = letter.uniqueKey { fact("Unique key") { key } }
            fact("Died") { ago(letter.diedAt, now: facts.now) }
        }
        if let layout {
            el(.div, .class("actions")) {
                for action in BulkAction.allCases {
                    layout.form(Link("/dead-letters/prepare")) {
                        hidden("action", action.rawValue)
                        hidden("id", "\(letter.id)")
                        el(
                            .button,
                            .class(action == .purge ? "is-grave" : "primary"),
                            text: action == .purge ? "Purge…" : "Redrive…"
                        )
                    }
                }
            }
        }
        progress(facts)
        payload(letter.payload)
        timeline(facts, enqueuedAt: letter.enqueuedAt, end: (letter.diedAt, "Became a dead letter: \(letter.reason)"))
    }

    @HTMLBuilder private static func succeeded(_ success: JobSuccess, _ facts: Facts) -> HTML {
        el(.header, .class("title")) {
            el(.h1) {
                "Job \(success.id) "
                badge("succeeded")
            }
        }
        el(.dl, .class("facts")) {
            fact("Kind") { success.kind }
            fact("Finished") { ago(success.finishedAt, now: facts.now) }
            fact("Result kept until") { stamp(success.expiresAt) }
            if success.isByFallback { fact("By") { "its circuit's fallback" } }
        }
        el(.section, .class("panel")) {
            el(.h2, text: "Result")
            el(.pre, text: String((success.result ?? "none").prefix(20_000)))
        }
        timeline(facts, enqueuedAt: nil, end: (success.finishedAt, "Succeeded"))
    }

    /// What it waits for and what waits for it, and how far the batch is whose callback it is.
    @HTMLBuilder private static func related(_ facts: Facts) -> HTML {
        if let batch = facts.batch {
            let ended = batch.succeeded + batch.dead
            el(.section, .class("panel")) {
                el(.h2, text: "Batch")
                progressBar(
                    Double(ended) / Double(max(batch.jobs, 1)),
                    "\(ended.grouped) of \(batch.jobs.grouped) jobs have ended, \(batch.dead.grouped) of them as dead "
                        + "letters" + (batch.isOpen ? "; it is open for more" : "")
                )
            }
        }
        for (direction, title) in [(JobRelation.Direction.dependency, "Waits for"), (.dependant, "Waited for by")] {
            let some = facts.relations.filter { $0.direction == direction }
            if !some.isEmpty {
                el(.section, .class("panel")) {
                    el(.h2, text: title)
                    el(.ul) {
                        for relation in some {
                            el(.li, .class("depth-\(relation.depth)")) {
                                el(.a, .href(Link("/jobs", id: relation.job)), text: "Job \(relation.job)")
                                " \(relation.kind ?? "")"
                                if direction == .dependency { " \(relation.state)" }
                            }
                        }
                    }
                    if some.count >= AdminDatabase.mostRelations { el(.p, .class("sub"), text: "There are more.") }
                }
            }
        }
    }

    @HTMLBuilder private static func finished(_ job: FinishedJob, _ facts: Facts) -> HTML {
        el(.header, .class("title")) {
            el(.div) {
                el(.h1) {
                    "Job \(job.id) "
                    badge(job.hasSucceeded ? "succeeded" : "dead")
                }
                if !job.hasSucceeded {
                    el(.p, .class("reason"), text: "\(job.reason ?? ""); its dead letter was put back or purged.")
                }
            }
        }
        el(.dl, .class("facts")) {
            fact("Kind") { el(.a, .href(Link("/jobs").with("kind", job.kind)), text: job.kind) }
            fact("Queue") { job.queue }
            fact("Priority") { "\(job.priority)" }
            fact("Attempts") { "\(job.attempt)" }
            if let key = job.key { fact("Key") { el(.a, .href(Link("/jobs").with("key", key)), text: key) } }
            if let key = job.uniqueKey { fact("Unique key") { key } }
            fact("Finished") { ago(job.finishedAt, now: facts.now) }
            if let took = job.took { fact("Took") { took.short } }
            if let worker = job.worker { fact("Worker") { worker } }
            if let trace = job.traceparent { fact("Trace") { trace } }
            if job.reason == "fallback" { fact("By") { "its circuit's fallback" } }
        }
        if let result = job.result {
            el(.section, .class("panel")) {
                el(.h2, text: "Result")
                el(.pre, text: String(result.prefix(20_000)))
            }
        }
        if let json = job.payload {
            payload(json)
        } else {
            el(.p, .class("sub"), text: "The history of its kind keeps no payloads.")
        }
        timeline(
            facts,
            enqueuedAt: job.enqueuedAt,
            end: (job.finishedAt, job.hasSucceeded ? "Succeeded" : "Became a dead letter: \(job.reason ?? "")")
        )
    }

    /// The job's payload. A large one is cut, so that the page stays readable.
    private static func payload(_ json: String) -> HTML {
        let limit = 20_000
        let shown = String(json.unicodeScalars.prefix(limit))
        return el(.section, .class("panel")) {
            el(.h2, text: "Payload")
            el(.pre, .named("tabindex", "0"), text: shown)
            if shown.utf8.count < json.utf8.count {
                el(
                    .p,
                    .class("sub"),
                    text: "Cut after \(limit.grouped) characters of \(json.utf8.count.grouped) bytes."
                )
            }
        }
    }

    /// What the job's runs have reported, and who has cancelled the job.
    @HTMLBuilder private static func progress(_ facts: Facts) -> HTML {
        if let progress = facts.progress {
            if let actor = progress.cancelledBy, let at = progress.cancelledAt {
                el(.p, .class("notice is-warn")) {
                    "\(actor) cancelled it "
                    ago(at, now: facts.now)
                    ". Its worker was asked to end the run."
                }
            }
            if progress.fraction != nil || progress.note != nil || progress.checkpoint != nil {
                el(.section, .class("panel")) {
                    el(.h2, text: "Progress")
                    progressBar(progress.fraction, progress.note)
                    if let at = progress.reportedAt {
                        el(.p, .class("sub")) {
                            "Reported "
                            ago(at, now: facts.now)
                        }
                    }
                    if let checkpoint = progress.checkpoint {
                        el(.h3, text: "Checkpoint")
                        el(.pre, .named("tabindex", "0"), text: String(checkpoint.unicodeScalars.prefix(20_000)))
                    }
                }
            }
        }
    }

    private static func timeline(_ facts: Facts, enqueuedAt: Date?, end: (at: Date, text: String)?) -> HTML {
        struct Event {
            var at: Date
            var cssClass: String
            var title: String
            var text = ""
        }
        var events: [Event] = []
        if let enqueuedAt { events.append(Event(at: enqueuedAt, cssClass: "", title: "Enqueued")) }
        for run in facts.runs {
            let attempt = run.attempt.map { "Attempt \($0)" } ?? "A run"
            let worker = run.worker.isEmpty ? "" : " on \(run.worker)"
            events.append(
                Event(
                    at: run.at ?? .distantPast,
                    cssClass: "is-open",
                    title: "\(attempt) \(run.className)\(worker)",
                    text: run.failure
                )
            )
        }
        for entry in facts.done {
            events.append(
                Event(
                    at: entry.at,
                    cssClass: "is-hand",
                    title: "\(entry.actor): \(entry.action)",
                    text: entry.reason ?? ""
                )
            )
        }
        if let end {
            // The recorded end is the start of its transaction, which may be slightly before the time of the last run.
            let at = max(end.at, facts.runs.compactMap(\.at).max() ?? end.at)
            let cssClass = end.text == "Succeeded" ? "is-closed" : "is-open"
            events.insert(Event(at: at, cssClass: cssClass, title: end.text), at: 0)
        }
        // Events are sorted with the newest first. Events of the same time keep the order above.
        let sorted = events.enumerated()
            .sorted { ($1.element.at, $0.offset) < ($0.element.at, $1.offset) }
            .map(\.element)
        return el(.section, .class("panel")) {
            el(.h2, text: "What happened")
            el(.ol, .class("timeline dots")) {
                for event in sorted {
                    el(.li, .class(event.cssClass)) {
                        el(.div) {
                            el(.p) {
                                el(.strong, text: event.title)
                                " "
                                if event.at > .distantPast { ago(event.at, now: facts.now) }
                            }
                            if !event.text.isEmpty { el(.p, .class("sub error"), text: event.text) }
                        }
                    }
                }
            }
        }
    }
}
