import BreakwaterAdmin
import Foundation

/// The sections in the navigation of the dashboard.
enum Section: CaseIterable {
    case overview, circuits, incidents, limits, queues, jobs, deadLetters, schedules, endpoints, workers, audit

    var title: String {
        switch self {
        case .overview: "Overview"
        case .circuits: "Circuits"
        case .incidents: "Incidents"
        case .limits: "Limits"
        case .queues: "Queues"
        case .jobs: "Jobs"
        case .deadLetters: "Dead letters"
        case .schedules: "Schedules"
        case .endpoints: "Endpoints"
        case .workers: "Workers"
        case .audit: "Audit log"
        }
    }

    var link: Link {
        switch self {
        case .overview: Link("/")
        case .circuits: Link("/circuits")
        case .incidents: Link("/incidents")
        case .limits: Link("/limits")
        case .queues: Link("/queues")
        case .jobs: Link("/jobs")
        case .deadLetters: Link("/dead-letters")
        case .schedules: Link("/schedules")
        case .endpoints: Link("/endpoints")
        case .workers: Link("/workers")
        case .audit: Link("/audit")
        }
    }
}

/// The layout around every page.
struct Layout {
    var title: String
    /// The page's section; nil if the page is not in the navigation.
    var section: Section?
    /// The user; nil if no user is logged in.
    var viewer: Viewer?
    /// The token in the session's forms.
    var token = ""
    var notice: Gatekeeper.Notice?
    /// How many circuits are not closed; nil if unknown.
    var openCircuits: Int?
    /// Whether the page refreshes itself.
    var isLive = false
    var now: Date?

    /// The whole page around its content.
    func page(@HTMLBuilder _ content: () -> HTML) -> HTML {
        el(.html, .named("lang", "en")) {
            el(.head) {
                el(.meta, .named("charset", "utf-8"))
                el(.meta, .name("viewport"), .named("content", "width=device-width, initial-scale=1"))
                el(.meta, .name("color-scheme"), .named("content", "light dark"))
                el(.meta, .name("robots"), .named("content", "noindex"))
                el(.title, text: "\(title) · Breakwater")
                el(.link, .named("rel", "icon"), .type("image/svg+xml"), .href(Assets.icon.link))
                el(.link, .named("rel", "stylesheet"), .href(Assets.stylesheet.link))
                el(.script, .source(Assets.script.link), .flag("defer"))
            }
            el(.body, .flag("data-live", isLive)) {
                element(.a, [.class("skip"), .named("href", "#main")], HTML("Skip to the content"))
                Pictures.definitions
                bar
                el(.main, .id("main"), .named("tabindex", "-1")) {
                    if let notice {
                        el(
                            .p,
                            .class(notice.isFailure ? "notice is-bad" : "notice is-good"),
                            .named("role", notice.isFailure ? "alert" : "status")
                        ) {
                            notice.isFailure ? Pictures.cross : Pictures.tick
                            notice.text
                        }
                    }
                    content()
                }
                if viewer != nil { footer }
            }
        }
    }

    private var bar: HTML {
        el(.header, .class("bar")) {
            el(.a, .class("brand"), .href(Link("/"))) {
                Pictures.brand
                "Breakwater"
            }
            if let viewer {
                el(.nav, .id("bar-nav"), .label("Pages")) {
                    el(.ul) {
                        for section in Section.allCases {
                            el(.li) {
                                el(
                                    .a,
                                    .href(section.link),
                                    .named("aria-current", section == self.section ? "page" : nil)
                                ) {
                                    section.title
                                    if section == .circuits, let openCircuits, openCircuits > 0 {
                                        el(
                                            .span,
                                            .class("count is-bad"),
                                            .id("open-circuits"),
                                            .named("title", "\(openCircuits) not closed"),
                                            text: "\(openCircuits)"
                                        )
                                    }
                                }
                            }
                        }
                    }
                }
                el(.div, .class("who")) {
                    el(.span, .class("name")) { viewer.name }
                    el(.span, .class("role"), text: viewer.role == .operator ? "operator" : "read-only")
                    if viewer.canLogOut {
                        form(Link("/logout")) { el(.button, .class("quiet"), text: "Log out") }
                    }
                }
            }
        }
    }

    private var footer: HTML {
        el(.footer, .id("foot")) {
            if let now {
                el(.span) {
                    "As of "
                    stamp(now)
                }
            }
            if isLive { el(.span, .id("live"), .flag("hidden"), text: "refreshes itself") }
        }
    }

    /// A form for an action. It contains the session's token.
    func form(_ action: Link, class name: String? = nil, @HTMLBuilder _ content: () -> HTML) -> HTML {
        el(.form, .named("method", "post"), .action(action), .class(name)) {
            hidden("token", token)
            content()
        }
    }
}

/// A hidden field of a form.
func hidden(_ name: String, _ value: String) -> HTML {
    el(.input, .type("hidden"), .name(name), .value(value))
}

/// The field for the reason of an action.
func reasonField(isRequired: Bool = true) -> HTML {
    el(.label) {
        "Reason"
        el(
            .input,
            .name("reason"),
            .flag("required", isRequired),
            .named("maxlength", "500"),
            .named("autocomplete", "off")
        )
    }
}
