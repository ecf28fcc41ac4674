import BreakwaterAdmin

/// All circuits. Those that are not closed have large cards, the others a line each.
enum CircuitsPage {
    static let pageSize = 25

    @Sendable static func show(_ exchange: Exchange) async throws -> WebAnswer {
        let offset = Int(min(max(exchange.request.query.int64("from") ?? 0, 0), 100_000))
        let (views, now, isMore) = try await exchange.database { admin in
            let statuses = try await admin.someCircuits(limit: pageSize + 1, offset: offset)
            let views = try await CircuitView.read(Array(statuses.prefix(pageSize)), admin)
            return (views, try await admin.now(), statuses.count > pageSize)
        }
        let noticed = views.filter { $0.face != .closed }
        let closed = views.filter { $0.face == .closed }
        return try await exchange.page("Circuits", .circuits, now: now) { _ in
            el(.h1, text: "Circuits")
            if views.isEmpty {
                el(.p, .class("empty")) {
                    "There are no circuits yet. A worker that handles a kind creates the kind's circuit when it starts."
                }
            }
            if !noticed.isEmpty {
                el(.div, .class("cards")) {
                    for view in noticed { view.card(now: now) }
                }
            }
            if !closed.isEmpty {
                el(.section) {
                    el(.h2, .class("quiet"), text: noticed.isEmpty ? "All closed" : "Closed")
                    el(.ul, .class("rows")) {
                        for view in closed {
                            el(.li, .class("row is-closed")) {
                                Pictures.lever(view.status.state)
                                el(.div, .class("head")) {
                                    el(.a, .href(view.link), .class("name"), text: view.status.name)
                                    el(.span, .class("sub")) {
                                        view.stateTitle
                                        view.lasted
                                    }
                                }
                                el(.div, .class("mini")) { view.columns }
                                el(.div, .class("numbers")) {
                                    el(.span) {
                                        view.status.calls == 0
                                            ? "no calls" : "\((view.status.failureRate ?? 0).percent) failed"
                                    }
                                    el(.span, .class("sub")) {
                                        if let threshold = view.status.policy.failureRate {
                                            "opens at \(threshold.percent)"
                                        }
                                    }
                                }
                                el(.div, .class("mini")) { view.history(now: now) }
                                el(.div, .class("numbers")) {
                                    el(.span) { view.waiting }
                                    el(.span, .class("sub"), text: "waiting")
                                }
                            }
                        }
                    }
                }
            }
            pages(offset: offset, isMore: isMore)
        }
    }

    @HTMLBuilder private static func pages(offset: Int, isMore: Bool) -> HTML {
        if offset > 0 || isMore {
            el(.nav, .class("pages"), .label("More circuits")) {
                if offset > 0 {
                    el(.a, .href(Link("/circuits").with("from", "\(max(0, offset - pageSize))")), text: "← Before")
                }
                if isMore { el(.a, .href(Link("/circuits").with("from", "\(offset + pageSize)")), text: "More →") }
            }
        }
    }
}
