import BreakwaterAdmin

/// The audit log: who did what, when and why.
enum AuditPage {
    private static let pageSize = 50

    @Sendable static func show(_ exchange: Exchange) async throws -> WebAnswer {
        let query = exchange.request.query
        var filter = AuditFilter()
        filter.actor = query["actor"]
        filter.action = query["action"]
        filter.target = query["target"]
        let (wanted, before) = (filter, query.int64("before"))
        let (entries, now) = try await exchange.database { admin in
            (try await admin.audit(wanted, before: before, limit: pageSize + 1), try await admin.now())
        }
        let shown = entries.prefix(pageSize)
        return try await exchange.page("Audit log", .audit, now: now) { _ in
            el(.h1, text: "Audit log")
            el(.form, .class("search"), .named("method", "get"), .action(Link("/audit")), .named("role", "search")) {
                field("Who", "actor", filter.actor)
                field("Action", "action", filter.action)
                field("What", "target", filter.target)
                el(.button, text: "Search")
            }
            if shown.isEmpty {
                el(
                    .p,
                    .class("empty"),
                    text: "Nobody did anything by hand\(filter == AuditFilter() ? " yet" : " like this")."
                )
            } else {
                el(.ol, .class("audit panel")) {
                    for entry in shown {
                        el(.li) {
                            el(.p) {
                                el(.strong, text: entry.actor)
                                " "
                                el(.code, text: entry.action)
                                " "
                                el(.span, .class("name"), text: entry.target)
                                if let reason = entry.reason { el(.span, .class("reason"), text: " “\(reason)”") }
                            }
                            el(.p, .class("sub")) {
                                ago(entry.at, now: now)
                                if entry.role != entry.actor { " as the database's \(entry.role)" }
                                if entry.details != "{}" {
                                    " "
                                    el(.code, text: entry.details)
                                }
                            }
                        }
                    }
                }
            }
            if entries.count > pageSize, let last = shown.last {
                el(.nav, .class("pages"), .label("More")) {
                    el(
                        .a,
                        .href(
                            Link("/audit").with("actor", filter.actor).with("action", filter.action)
                                .with("target", filter.target).with("before", "\(last.id)")
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
}
