import BreakwaterAdmin
import Foundation

/// The jobs of the page of jobs that have ended: those of the history, and dead letters.
enum EndedJobsPanel {
    /// - Parameter link: The address of the search, to which the place of the next page is added.
    @HTMLBuilder static func show(_ found: FoundEndedJobs, _ link: Link, now: Date) -> HTML {
        el(.h2, text: "Ended")
        if let time = found.searchedTo {
            el(.p, .class("sub"), .named("role", "status")) {
                "Looked back to \(time.stamp); there may be more before. A kind or a key makes the search faster."
            }
        }
        if found.jobs.isEmpty {
            if found.searchedTo == nil {
                el(
                    .p,
                    .class("empty"),
                    text:
                        "No job that has ended is like this. Jobs that succeed are kept where their kind has a history."
                )
            }
        } else {
            table(found.jobs, now: now)
        }
        if let next = found.next {
            el(.nav, .class("pages"), .label("More ended jobs")) {
                el(.a, .href(link.with("ended", next.time.text).with("ended_id", "\(next.id)")), text: "Earlier →")
            }
        }
    }

    private static func table(_ jobs: [EndedJob], now: Date) -> HTML {
        el(.div, .class("scroll panel")) {
            el(.table) {
                el(.thead) {
                    el(.tr) {
                        for name in ["Id", "Kind", "Outcome", "Ended", "Why", "Key", "Payload"] {
                            el(.th, .named("scope", "col"), text: name)
                        }
                    }
                }
                el(.tbody) {
                    for job in jobs { row(job, now: now) }
                }
            }
        }
    }

    private static func row(_ job: EndedJob, now: Date) -> HTML {
        el(.tr) {
            el(.th, .named("scope", "row")) { el(.a, .href(Link("/jobs", id: job.id)), text: "\(job.id)") }
            el(.td, .named("data-label", "Kind")) {
                job.kind
                el(.span, .class("sub block"), text: job.queue)
            }
            el(.td, .named("data-label", "Outcome")) {
                JobPage.badge(job.outcome == "succeeded" ? "succeeded" : "dead")
            }
            el(.td, .named("data-label", "Ended")) { ago(job.endedAt, now: now) }
            el(.td, .named("data-label", "Why"), .class("why"), text: job.why)
            el(.td, .named("data-label", "Key"), text: job.key ?? job.uniqueKey ?? "")
            el(.td, .named("data-label", "Payload")) { el(.code, .class("cut"), text: job.payload ?? "not kept") }
        }
    }
}
