import BreakwaterAdmin
import Foundation

/// The incidents: what happened while circuits were open, and what it cost.
enum IncidentsPage {
    private static let pageSize = 30

    // MARK: - List of incidents

    @Sendable static func show(_ exchange: Exchange) async throws -> WebAnswer {
        let query = exchange.request.query
        let filter = IncidentFilter(kind: query["kind"].nonEmpty, key: query["key"].nonEmpty)
        let before = query.int64("before")
        let (incidents, now) = try await exchange.database { admin in
            (try await admin.incidents(filter, before: before, limit: pageSize + 1), try await admin.now())
        }
        let shown = incidents.prefix(pageSize)
        return try await exchange.page("Incidents", .incidents, now: now) { _ in
            el(.h1, text: "Incidents")
            el(.form, .class("search"), .named("method", "get"), .action(Link("/incidents")), .named("role", "search"))
            {
                field("Kind or shared circuit", "kind", filter.kind)
                field("Key", "key", filter.key)
                el(.button, text: "Search")
            }
            if shown.isEmpty {
                el(
                    .p,
                    .class("empty"),
                    text: "No circuit has opened\(filter == IncidentFilter() ? " yet" : " like this")."
                )
            } else {
                el(.ol, .class("timeline panel")) { for incident in shown { line(incident, now: now) } }
            }
            if incidents.count > pageSize, let last = shown.last {
                el(.nav, .class("pages"), .label("More")) {
                    el(
                        .a,
                        .href(
                            Link("/incidents").with("kind", filter.kind).with("key", filter.key)
                                .with("before", "\(last.id)")
                        ),
                        text: "Earlier →"
                    )
                }
            }
        }
    }

    private static func field(_ title: String, _ name: String, _ value: String?) -> HTML {
        el(.label) {
            title
            el(.input, .name(name), .value(value ?? ""), .named("maxlength", "500"), .named("autocomplete", "off"))
        }
    }

    private static func line(_ incident: Incident, now: Date) -> HTML {
        el(.li, .class("is-\(incident.face)")) {
            Pictures.lever(incident.face)
            el(.div) {
                el(.p) {
                    el(.a, .href(Link("/incidents", id: incident.id)), .class("name"), text: incident.circuitName)
                    " "
                    el(.strong, text: incident.stateTitle)
                    " \(incident.duration.short), began "
                    ago(incident.beganAt, now: now)
                    if incident.openings > 1 { ", opened \(incident.openings.of("time"))" }
                }
                el(.p, .class("sub")) {
                    el(.span, .class("reason"), text: incident.cause)
                    if let failures = incident.failures { ": \(failures)" }
                }
                el(.p, .class("sub"), text: incident.costs)
            }
        }
    }

    // MARK: - One incident

    @Sendable static func showOne(_ exchange: Exchange) async throws -> WebAnswer {
        let id = exchange.id
        let (found, now) = try await exchange.database { admin in
            (try await admin.incident(id: id), try await admin.now())
        }
        guard let incident = found else {
            throw Refusal.notFound("There is no such incident. They are kept for a year.")
        }
        let counts = incident.counts
        return try await exchange.page("Incident \(id)", .incidents, now: now) { _ in
            el(.p, .class("trail")) { el(.a, .href(Link("/incidents")), text: "Incidents") }
            el(.header, .class("title is-\(incident.face)")) {
                Pictures.lever(incident.face)
                el(.div) {
                    el(.h1, text: "\(incident.circuitName): incident \(id)")
                    el(.p) {
                        el(.strong, .class("state"), text: incident.stateTitle)
                        " \(incident.duration.short): "
                        el(.span, .class("reason"), text: incident.cause)
                    }
                }
            }
            el(.dl, .class("facts")) {
                fact("Circuit") {
                    el(
                        .a,
                        .href(
                            Link("/circuits/one").with("kind", incident.circuit.kind).with("key", incident.circuit.key)
                        ),
                        text: incident.circuitName
                    )
                }
                fact("Began") { ago(incident.beganAt, now: now) }
                if let ended = incident.endedAt { fact("Ended") { ago(ended, now: now) } }
                fact("Opened by") { incident.actor ?? "the breaker" }
                fact("Openings") { "\(incident.openings)" }
                fact("Open for") { incident.timeOpen.short }
                if let reason = incident.endReason { fact("Why it closed") { reason } }
                if let failures = incident.failures { fact("What failed") { failures } }
            }
            el(.section, .class("panel")) {
                el(.h2, text: "What it cost")
                el(.dl, .class("facts")) {
                    fact("Jobs waiting, at most") { number(counts.mostWaiting) }
                    fact("At first, at last") { "\(number(counts.waitingAtBegin)), \(number(counts.waiting))" }
                    fact("Longest wait") { counts.longestWait?.short ?? "not counted" }
                    fact("Attempts spent") { number(counts.attemptsSpent) }
                    fact("Attempts handed back") { number(counts.handedBack) }
                    fact("Dead letters") { number(counts.deadLetters) }
                    fact("Still dead letters") { number(counts.deadLettersLeft) }
                    fact("Calls spared, about") { number(counts.callsSpared) }
                }
                if !incident.isCounted {
                    el(.p, .class("caption"), text: "The counts are some seconds behind.")
                }
                if let left = counts.deadLettersLeft, left > 0 {
                    el(.p, .class("sub")) {
                        "To put its dead letters back: "
                        el(.code, text: "worker dead-letters redrive --incident \(id)")
                    }
                }
            }
        }
    }

    private static func number(_ count: Int?) -> String { count?.grouped ?? "not counted" }
}

extension String? {
    fileprivate var nonEmpty: String? { self?.isEmpty == true ? nil : self }
}

extension Incident {
    /// The circuit state whose picture is shown for the incident.
    fileprivate var face: String { endedAt == nil ? "open" : "closed" }

    fileprivate var stateTitle: String {
        isFalseAlarm ? "False alarm for" : endedAt == nil ? "Has been going on for" : "Lasted"
    }

    /// The cost of the incident in one line.
    fileprivate var costs: String {
        guard let spent = counts.attemptsSpent else { return "What it cost was not counted." }
        var parts: [String] = []
        if let most = counts.mostWaiting { parts.append("\(most.of("job")) waited at most") }
        parts.append("\(spent.of("attempt")) spent")
        if let back = counts.handedBack, back > 0 { parts.append("\(back.grouped) handed back") }
        if let dead = counts.deadLetters, dead > 0 { parts.append("\(dead.of("dead letter"))") }
        if let spared = counts.callsSpared, spared > 0 { parts.append("about \(spared.of("call")) spared") }
        return parts.joined(separator: ", ")
    }
}
