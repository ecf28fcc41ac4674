/// A path of the dashboard, and the role that may use it.
struct Route: Sendable {
    var method: WebRequest.Method
    /// The pattern of the path, in which `#` stands for a number.
    var pattern: String
    /// The required role; nil if every visitor may use it.
    var role: DashboardRole?
    /// Makes the answer to a request.
    var answer: @Sendable (Exchange) async throws -> WebAnswer

    /// The number in a path. It is 0 if the pattern has none, and nil if the path does not match.
    func id(in path: String) -> Int64? {
        let (wanted, given) = (pattern.split(separator: "/"), path.split(separator: "/"))
        guard wanted.count == given.count, path.hasPrefix("/"), !path.hasSuffix("/") || path == "/" else { return nil }
        var id: Int64 = 0
        for (wanted, given) in zip(wanted, given) {
            if wanted == "#" {
                guard given.allSatisfy({ $0.isASCII && $0.isNumber }), let number = Int64(given) else { return nil }
                id = number
            } else if wanted != given {
                return nil
            }
        }
        return id
    }

    /// A page that only shows data.
    private static func page(
        _ pattern: String,
        _ answer: @escaping @Sendable (Exchange) async throws -> WebAnswer
    ) -> Route {
        Route(method: .get, pattern: pattern, role: .readOnly, answer: answer)
    }

    /// An action. Its form is read only after its token has been checked.
    private static func action(
        _ pattern: String,
        _ answer: @escaping @Sendable (Exchange) async throws -> WebAnswer
    ) -> Route {
        Route(method: .post, pattern: pattern, role: .operator, answer: answer)
    }

    /// All routes.
    static let all: [Route] = [
        Route(method: .get, pattern: "/login", role: nil, answer: LoginPage.show),
        Route(method: .post, pattern: "/login", role: nil, answer: LoginPage.logIn),
        Route(method: .post, pattern: "/logout", role: .readOnly, answer: LoginPage.logOut),
        Route(method: .get, pattern: "/assets/style.css", role: nil) { _ in Assets.stylesheet.answer },
        Route(method: .get, pattern: "/assets/live.js", role: nil) { _ in Assets.script.answer },
        Route(method: .get, pattern: "/assets/icon.svg", role: nil) { _ in Assets.icon.answer },
        page("/", OverviewPage.show),
        page("/circuits", CircuitsPage.show),
        page("/circuits/one", CircuitPage.show),
        action("/circuits/change", CircuitPage.change),
        page("/incidents", IncidentsPage.show),
        page("/incidents/#", IncidentsPage.showOne),
        page("/limits", LimitsPage.show),
        page("/queues", QueuesPage.show),
        action("/queues/pause", QueuesPage.pause),
        action("/queues/resume", QueuesPage.resume),
        page("/jobs", JobsPage.show),
        page("/jobs/#", JobPage.show),
        action("/jobs/#/run-now", JobPage.runNow),
        action("/jobs/#/run-through", JobPage.runThrough),
        action("/jobs/#/cancel", JobPage.cancel),
        action("/jobs/#/priority", JobPage.setPriority),
        page("/dead-letters", DeadLettersPage.show),
        action("/dead-letters/prepare", DeadLettersPage.prepare),
        action("/dead-letters/redrive", DeadLettersPage.redrive),
        action("/dead-letters/purge", DeadLettersPage.purge),
        action("/dead-letters/stop", DeadLettersPage.stop),
        page("/schedules", SchedulesPage.show),
        page("/schedules/one", SchedulePage.show),
        action("/schedules/pause", SchedulePage.pause),
        action("/schedules/resume", SchedulePage.resume),
        action("/schedules/run", SchedulePage.run),
        action("/schedules/remove", SchedulePage.remove),
        page("/endpoints", EndpointsPage.show),
        action("/endpoints/disable", EndpointsPage.disable),
        action("/endpoints/enable", EndpointsPage.enable),
        page("/workers", WorkersPage.show),
        action("/workers/#/drain", WorkersPage.drain),
        action("/workers/#/undrain", WorkersPage.undrain),
        page("/audit", AuditPage.show),
    ]
}

extension Assets.Asset {
    fileprivate var answer: WebAnswer { .asset(bytes, type: type) }
}
