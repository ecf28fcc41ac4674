import BreakwaterAdmin
import Foundation
import Libpq
import Logging

/// The dashboard without its HTTP server: answers requests.
final class Site: Sendable {
    let configuration: DashboardConfiguration
    let gate: Gatekeeper
    private let hosts: AllowedHosts
    let database: DatabasePool
    let runs: BulkRuns
    let logger: Logger
    let routes = Route.all

    init(_ configuration: DashboardConfiguration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
        gate = Gatekeeper(configuration)
        hosts = AllowedHosts(listeningOn: configuration.host, others: configuration.hosts)
        database = DatabasePool(configuration.database, limit: configuration.queryTimeout, logger: logger)
        runs = BulkRuns(database: database, logger: logger)
    }

    /// Answers a request. Every failure becomes an answer too.
    func answer(_ request: WebRequest) async -> WebAnswer {
        var answer = await find(request)
        answer.headers += WebAnswer.securityHeaders
        return answer
    }

    private func find(_ request: WebRequest) async -> WebAnswer {
        guard hosts.contain(request.header("host")) else {
            return problem(
                421,
                "Not under this name",
                """
                The dashboard does not answer under the name that this request has in its Host header. If people are to \
                reach it so, add the name to dashboard.hosts in its configuration.
                """,
                nil
            )
        }
        let matching = routes.compactMap { route in route.id(in: request.path).map { (route, $0) } }
        guard let (route, id) = matching.first(where: { $0.0.method == request.method }) else {
            let viewer = gate.viewer(of: request)
            return matching.isEmpty
                ? problem(404, "There is no such page", "Nothing is at this address.", viewer)
                : problem(405, "Not like this", "This address is for forms of the dashboard.", viewer)
                    .with("allow", matching.map(\.0.method.rawValue).joined(separator: ", "))
        }
        let viewer = gate.viewer(of: request)
        if let role = route.role {
            guard let viewer else { return askToLogIn(request) }
            guard viewer.role >= role else {
                logger.notice(
                    "refused an action to somebody who may only look",
                    metadata: ["user": "\(viewer.name)", "path": "\(request.path)"]
                )
                return problem(403, "You may only look", "This takes an operator; you are read-only.", viewer)
            }
            if request.method == .post, !gate.isGenuine(request, from: viewer) {
                return problem(
                    403,
                    "This form is out of date",
                    "It was not made for this login. Go back, load the page again, and repeat what you did.",
                    viewer
                )
            }
        }
        do {
            return try await route.answer(Exchange(site: self, request: request, viewer: viewer, id: id))
        } catch let refusal as Refusal {
            return problem(refusal.status, refusal.title, refusal.message, viewer)
        } catch let error as PostgresError {
            let explained = try? await database.with { await $0.explained(error) }
            return problem(explained ?? error, request, viewer)
        } catch {
            logger.error("a page failed", metadata: ["path": "\(request.path)", "error": "\(error)"])
            return problem(500, "Something went wrong", "The dashboard's log says more.", viewer)
        }
    }

    /// Redirects a user who is not logged in to the login page. An automatic refresh gets a redirect that does not lead
    /// back to the page.
    private func askToLogIn(_ request: WebRequest) -> WebAnswer {
        let isPage = request.method == .get && request.header("x-refresh") == nil
        guard !configuration.users.isEmpty else {
            return problem(
                403,
                "Who are you?",
                "The reverse proxy in front of the dashboard did not say who you are, and nobody has a password here.",
                nil
            )
        }
        return .redirect(isPage ? Link("/login").with("to", request.path == "/" ? nil : request.path) : Link("/login"))
    }

    private func problem(_ error: PostgresError, _ request: WebRequest, _ viewer: Viewer?) -> WebAnswer {
        logger.warning("the database refused a page", metadata: ["path": "\(request.path)", "error": "\(error)"])
        switch (error.code, error.sqlState ?? "") {
        case (.connectionFailed, _), (.connectionLost, _), (_, "57P01"), (_, "57P02"), (_, "57P03"):
            return problem(503, "The database cannot be reached", "The dashboard goes on trying.", viewer)
        case (.timedOut, _), (_, "57014"), (_, "55P03"):
            return problem(
                503,
                "This took too long",
                "The database did not answer in \(configuration.queryTimeout.short). "
                    + (error.detail.map { "Look: \($0)." } ?? "Narrow the search, or try again."),
                viewer
            )
        case (_, "42501"):
            return problem(
                500,
                "The dashboard may not do this",
                "Its database user lacks a privilege: GRANT breakwater_admin to it. (\(error.message))",
                viewer
            )
        case (_, "3F000"), (_, "42P01"), (_, "42883"):
            return problem(
                500,
                "The schema is missing or of another version",
                "Run: worker migrate. (\(error.message))",
                viewer
            )
        case (.server, _):
            let hint = error.hint.map { " \($0)" } ?? ""
            return problem(422, "The database refuses this", error.message + hint, viewer)
        default:
            return problem(500, "Something went wrong", "The dashboard's log says more.", viewer)
        }
    }

    private func problem(_ status: Int, _ title: String, _ message: String, _ viewer: Viewer?) -> WebAnswer {
        let token = viewer.map { gate.formToken(of: $0) } ?? ""
        let layout = Layout(title: title, section: nil, viewer: viewer, token: token)
        return .page(
            layout.page {
                el(.section, .class("problem")) {
                    el(.h1, text: title)
                    el(.p, text: message)
                    el(.p) { el(.a, .href(Link("/")), text: "To the overview") }
                }
            },
            status: status
        )
    }
}

/// The reason why a request is refused.
struct Refusal: Error {
    var status: Int
    var title: String
    var message: String

    static func notFound(_ message: String) -> Refusal { Refusal(status: 404, title: "Not here", message: message) }
    static func wrong(_ message: String) -> Refusal { Refusal(status: 422, title: "That cannot be", message: message) }
}

/// One request while it is being answered.
struct Exchange: Sendable {
    var site: Site
    var request: WebRequest
    var viewer: Viewer?
    /// The number in the path, if the route has one.
    var id: Int64

    /// The acting user's name for the audit log.
    var actor: String { viewer?.name ?? "?" }

    /// Whether the user may make changes.
    var mayAct: Bool { viewer?.role == .operator }

    /// Reads or changes the database.
    func database<Value: Sendable>(_ body: @Sendable (AdminDatabase) async throws -> Value) async throws -> Value {
        try await site.database.with(body)
    }

    /// A page of the navigation.
    func page(
        _ title: String,
        _ section: Section,
        isLive: Bool = true,
        now: Date? = nil,
        @HTMLBuilder _ content: (Layout) -> HTML
    ) async throws -> WebAnswer {
        let counts = try await database { try await $0.circuitCounts() }
        var layout = Layout(title: title, section: section, viewer: viewer, isLive: isLive, now: now)
        layout.openCircuits = counts.reduce(0) { $0 + ($1.key == "closed" ? 0 : $1.value) }
        if let viewer {
            layout.token = site.gate.formToken(of: viewer)
            layout.notice = site.gate.consumeNotice(for: viewer)
        }
        return .page(layout.page { content(layout) })
    }

    /// Ends an action with a redirect to a page that shows the result.
    func done(_ text: String, isFailure: Bool = false, to link: Link) -> WebAnswer {
        if let viewer { site.gate.leave(.init(text: text, isFailure: isFailure), for: viewer) }
        return .redirect(link)
    }

    /// The value of a required field of the form.
    func need(_ field: String, _ what: String) throws -> String {
        guard let value = request.form[field]?.trimmed, !value.isEmpty else {
            throw Refusal.wrong("\(what) is missing.")
        }
        guard value.utf8.count <= 2000 else { throw Refusal.wrong("\(what) is too long.") }
        return value
    }

    /// The name in the form of what an action is for.
    func name() throws -> String {
        let name = request.form["name"] ?? ""
        guard (1...200).contains(name.utf8.count) else { throw Refusal.wrong("The name must have 1 to 200 bytes.") }
        return name
    }

    /// The reason given for an action; nil for none.
    func reason() throws -> String? {
        let reason = request.form["reason"]?.trimmed
        guard (reason?.utf8.count ?? 0) <= 2000 else { throw Refusal.wrong("The reason is too long.") }
        return reason?.isEmpty == false ? reason : nil
    }
}
