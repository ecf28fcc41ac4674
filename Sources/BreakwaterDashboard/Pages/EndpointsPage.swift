import BreakwaterAdmin
import Foundation

/// The endpoints of customers: which are disabled or failing, why, and how many jobs wait for them.
enum EndpointsPage {
    private static let pageSize = 50

    @Sendable static func show(_ exchange: Exchange) async throws -> WebAnswer {
        let query = exchange.request.query
        let (text, after) = (query["search"], query["after"])
        let isTroubled = query["troubled"] != nil
        let (endpoints, now) = try await exchange.database { admin in
            (
                try await admin.endpoints(containing: text, after: after, isTroubled: isTroubled, limit: pageSize + 1),
                try await admin.now()
            )
        }
        let shown = endpoints.prefix(pageSize)
        return try await exchange.page("Endpoints", .endpoints, now: now) { layout in
            el(.h1, text: "Endpoints")
            el(.form, .class("search"), .named("method", "get"), .action(Link("/endpoints")), .named("role", "search"))
            {
                el(.label) {
                    "Name or URL"
                    el(
                        .input,
                        .name("search"),
                        .value(text ?? ""),
                        .named("maxlength", "500"),
                        .named("autocomplete", "off")
                    )
                }
                el(.label) {
                    el(.input, .type("checkbox"), .name("troubled"), .value("1"), .flag("checked", isTroubled))
                    " Only disabled and failing ones"
                }
                el(.button, text: "Search")
            }
            if shown.isEmpty {
                el(
                    .p,
                    .class("empty"),
                    text: text == nil && after == nil && !isTroubled
                        ? "There are no endpoints. Add one: worker endpoints set NAME --url URL"
                        : "No endpoint is like this."
                )
            } else {
                el(.ul, .class("plain lines panel")) {
                    for (place, endpoint) in shown.enumerated() { line(endpoint, place, now: now, layout, exchange) }
                }
            }
            if endpoints.count > pageSize, let last = shown.last {
                el(.nav, .class("pages"), .label("More")) {
                    el(
                        .a,
                        .href(
                            Link("/endpoints").with("search", text).with("troubled", isTroubled ? "1" : nil)
                                .with("after", last.name)
                        ),
                        text: "Next →"
                    )
                }
            }
        }
    }

    private static func line(
        _ endpoint: EndpointStatus,
        _ place: Int,
        now: Date,
        _ layout: Layout,
        _ exchange: Exchange
    ) -> HTML {
        el(.li) {
            el(.div, .class("head")) {
                el(.strong, .class("name"), text: endpoint.name)
                if endpoint.disabledAt != nil {
                    el(.span, .class("badge is-warn"), text: "Disabled")
                } else if endpoint.failingSince != nil {
                    el(.span, .class("badge is-bad"), text: "Failing")
                }
                el(.span, .class("sub"), text: endpoint.url)
            }
            if let disabled = endpoint.disabledAt {
                el(.p, .class("sub")) {
                    "Disabled by \(endpoint.disabledBy ?? "?") "
                    ago(disabled, now: now)
                    ": \(endpoint.disabledReason ?? "")"
                }
            }
            if let failing = endpoint.failingSince {
                el(.p, .class("sub")) {
                    "No delivery has succeeded since "
                    stamp(failing)
                    if let failure = endpoint.lastFailure { "; the last one: \(failure)" }
                }
            }
            if endpoint.held > 0 || !endpoint.circuits.isEmpty {
                el(.p, .class("sub")) {
                    "\(endpoint.held.grouped(cap: EndpointStatus.heldCap + 1)) jobs wait behind its circuits"
                    endpoint.circuits.isEmpty ? "" : " (\(endpoint.circuits.joined(separator: ", ")))"
                }
            }
            if exchange.mayAct { form(endpoint, place, layout) }
        }
    }

    private static func form(_ endpoint: EndpointStatus, _ place: Int, _ layout: Layout) -> HTML {
        if endpoint.disabledAt != nil {
            return layout.form(Link("/endpoints/enable")) {
                hidden("name", endpoint.name)
                el(.button, .label("Enable the endpoint \(endpoint.name)"), text: "Enable")
            }
        }
        return el(.details, .class("act"), .id("disable-\(place)")) {
            el(.summary, .class("button"), .label("Disable the endpoint \(endpoint.name)"), text: "Disable")
            layout.form(Link("/endpoints/disable"), class: "sheet") {
                hidden("name", endpoint.name)
                el(
                    .p,
                    .class("sub"),
                    text: "Nothing is sent to it until it is enabled. Its jobs wait, or become dead letters, as their "
                        + "handler says."
                )
                reasonField()
                el(.button, .class("primary"), text: "Disable")
            }
        }
    }

    // MARK: - Acting

    @Sendable static func disable(_ exchange: Exchange) async throws -> WebAnswer {
        let (name, reason) = (try exchange.name(), try exchange.need("reason", "The reason"))
        let was = try await exchange.database {
            try await $0.disableEndpoint(name, reason: reason, actor: exchange.actor)
        }
        return exchange.done(
            was ? "The endpoint '\(name)' is disabled." : "There is no endpoint '\(name)'.",
            isFailure: !was,
            to: Link("/endpoints")
        )
    }

    @Sendable static func enable(_ exchange: Exchange) async throws -> WebAnswer {
        let (name, reason) = (try exchange.name(), try exchange.reason())
        let was = try await exchange.database {
            try await $0.enableEndpoint(name, reason: reason, actor: exchange.actor)
        }
        return exchange.done(
            was ? "The endpoint '\(name)' is enabled." : "The endpoint '\(name)' was not disabled.",
            isFailure: !was,
            to: Link("/endpoints")
        )
    }
}
