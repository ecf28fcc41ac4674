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
    private static func look(
        _ pattern: String,
        _ answer: @escaping @Sendable (Exchange) async throws -> WebAnswer
    ) -> Route {
        Route(method: .get, pattern: pattern, role: .readOnly, answer: answer)
    }

    /// An action. Its form is read only after its token has been checked.
    private static func act(
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
        look("/", OverviewPage.show),
        look("/circuits", CircuitsPage.show),
        look("/circuits/one", CircuitPage.show),
        act("/circuits/change", CircuitPage.change),
        look("/incidents", IncidentsPage.show),
        look("/incidents/#", IncidentsPage.showOne),
        look("/queues", QueuesPage.show),
        act("/queues/pause", QueuesPage.pause),
        act("/queues/resume", QueuesPage.resume),
        look("/jobs", JobsPage.show),
        look("/jobs/#", JobPage.show),
        act("/jobs/#/run-now", JobPage.runNow),
        act("/jobs/#/run-through", JobPage.runThrough),
        act("/jobs/#/cancel", JobPage.cancel),
        act("/jobs/#/priority", JobPage.setPriority),
        look("/dead-letters", DeadLettersPage.show),
        act("/dead-letters/prepare", DeadLettersPage.prepare),
        act("/dead-letters/redrive", DeadLettersPage.redrive),
        act("/dead-letters/purge", DeadLettersPage.purge),
        act("/dead-letters/stop", DeadLettersPage.stop),
        look("/workers", WorkersPage.show),
        act("/workers/#/drain", WorkersPage.drain),
        act("/workers/#/undrain", WorkersPage.undrain),
        look("/audit", AuditPage.show),
    ]
}

extension Assets.Asset {
    fileprivate var answer: WebAnswer { .asset(bytes, type: type) }
}
