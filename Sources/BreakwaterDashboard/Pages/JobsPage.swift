import BreakwaterAdmin
import Foundation

/// The search for jobs: those that wait or run, and those that have ended.
enum JobsPage {
    private static let pageSize = 50
    private static let countCap = 1000

    @Sendable static func show(_ exchange: Exchange) async throws -> WebAnswer {
        let query = exchange.request.query
        if let id = query.int64("id") { return .redirect(Link("/jobs", id: id)) }
        var filter = JobFilter()
        filter.kind = query["kind"]?.trimmed
        filter.queue = query["queue"]?.trimmed
        filter.state = query["state"].flatMap(JobFilter.State.init)
        filter.path = query["path"]?.trimmed
        filter.key = query["key"]?.trimmed
        guard (filter.path?.utf8.count ?? 0) <= 1000 else { throw Refusal.wrong("The payload path is too long.") }
        let (wanted, before) = (filter, query.int64("before"))
        let endedBefore = endPlace(query)
        let (found, ended, now) = try await exchange.database { admin -> (FoundJobs?, FoundEndedJobs?, Date) in
            // A further page shows one of the two lists.
            let showsLive = wanted.includesLive && endedBefore == nil
            let showsEnded = wanted.includesEnded && before == nil
            return (
                showsLive
                    ? try await admin.findJobs(wanted, before: before, page: pageSize, cap: countCap) : nil,
                showsEnded
                    ? try await admin.findEndedJobs(
                        wanted,
                        before: endedBefore,
                        page: pageSize,
                        patience: .milliseconds(200)
                    ) : nil,
                try await admin.now()
            )
        }
        return try await exchange.page("Jobs", .jobs, now: now) { _ in
            el(.h1, text: "Jobs")
            search(filter)
            if let found { live(found, filter, isFirst: before == nil) }
            if let ended { EndedJobsPanel.show(ended, link(filter), now: now) }
        }
    }

    /// The place where the list of ended jobs goes on, from the page's address.
    private static func endPlace(_ query: FormValues) -> EndPlace? {
        guard let id = query.int64("ended_id"), let time = query["ended"], time.utf8.count <= 40,
            time.allSatisfy({ $0.isASCII && ($0.isNumber || " :.+-".contains($0)) })
        else { return nil }
        return EndPlace(time: DatabaseTime(text: time), id: id)
    }

    @HTMLBuilder private static func live(_ found: FoundJobs, _ filter: JobFilter, isFirst: Bool) -> HTML {
        el(.p, .class("sub count-line"), .named("role", "status")) {
            if found.count >= countCap {
                "\(countCap.grouped)+ match"
            } else {
                found.count == 1 ? "1 matches" : "\(found.count.grouped) match"
            }
            if !isFirst { ", from here on" }
            if found.isUnfinished, let next = found.next {
                ". Looked down to the id \(next); there may be more below."
            }
        }
        if found.jobs.isEmpty {
            if !found.isUnfinished { el(.p, .class("empty"), text: "No job that waits or runs is like this.") }
        } else {
            table(found.jobs)
        }
        if let next = found.next {
            el(.nav, .class("pages"), .label("More jobs")) {
                el(
                    .a,
                    .href(link(filter).with("before", "\(next)")),
                    text: found.jobs.isEmpty ? "Look further →" : "Older →"
                )
            }
        }
    }

    private static func link(_ filter: JobFilter) -> Link {
        Link("/jobs").with("kind", filter.kind).with("queue", filter.queue).with("state", filter.state?.rawValue)
            .with("path", filter.path).with("key", filter.key)
    }

    private static func search(_ filter: JobFilter) -> HTML {
        el(.form, .class("search"), .named("method", "get"), .action(Link("/jobs")), .named("role", "search")) {
            el(.label) {
                "Id"
                el(
                    .input,
                    .name("id"),
                    .named("inputmode", "numeric"),
                    .named("pattern", "[0-9]*"),
                    .named("autocomplete", "off"),
                    .class("short")
                )
            }
            field("Kind", "kind", filter.kind)
            field("Queue", "queue", filter.queue)
            el(.label) {
                "State"
                el(.select, .name("state")) {
                    el(.option, .value(""), text: "any")
                    for state in JobFilter.State.allCases {
                        el(
                            .option,
                            .value(state.rawValue),
                            .flag("selected", state == filter.state),
                            text: title(of: state)
                        )
                    }
                }
            }
            field("Key", "key", filter.key)
            el(.label, .class("grows")) {
                "Payload"
                el(
                    .input,
                    .name("path"),
                    .value(filter.path ?? ""),
                    .named("placeholder", "$.customer == 17"),
                    .named("maxlength", "1000"),
                    .named("autocomplete", "off"),
                    .named("spellcheck", "false"),
                    .named("title", "An SQL/JSON path, such as $.customer == 17, or $.items[*] ? (@.price > 100)")
                )
            }
            el(.button, .class("primary"), text: "Search")
        }
    }

    private static func title(of state: JobFilter.State) -> String {
        switch state {
        case .parked: "behind a key"
        case .dependent: "waiting for other jobs"
        default: state.rawValue.replacing("_", with: " ")
        }
    }

    private static func field(_ title: String, _ name: String, _ value: String?) -> HTML {
        el(.label) {
            title
            el(.input, .name(name), .value(value ?? ""), .named("maxlength", "200"), .named("autocomplete", "off"))
        }
    }

    private static func table(_ jobs: [JobStatus]) -> HTML {
        el(.div, .class("scroll panel")) {
            el(.table) {
                el(.thead) {
                    el(.tr) {
                        for name in ["Id", "Kind", "State", "Why", "Payload"] {
                            el(.th, .named("scope", "col"), text: name)
                        }
                    }
                }
                el(.tbody) {
                    for job in jobs {
                        el(.tr) {
                            el(.th, .named("scope", "row")) {
                                el(.a, .href(Link("/jobs", id: job.id)), text: "\(job.id)")
                            }
                            el(.td, .named("data-label", "Kind")) {
                                job.kind
                                el(.span, .class("sub block"), text: "\(job.queue), priority \(job.priority)")
                            }
                            el(.td, .named("data-label", "State")) { JobPage.badge(job.state) }
                            el(.td, .named("data-label", "Why"), .class("why")) {
                                job.why.withoutFractions
                                progressBar(job.fraction, job.note)
                            }
                            el(.td, .named("data-label", "Payload")) { el(.code, .class("cut"), text: job.payload) }
                        }
                    }
                }
            }
        }
    }
}
