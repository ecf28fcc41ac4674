import BreakwaterTesting
import Foundation
import Libpq
import Logging
import Testing

@testable import BreakwaterDashboard

/// A dashboard on a database of its own, for a test that visits it as a user.
struct TestSite {
    var site: Site
    var database: TestDatabase
    static let password = "correct horse"
    /// A cheap hash, because the tests log in often. The checks of a configuration would refuse it.
    private static let hash = PasswordHash(password: password, cost: 10)

    /// The users of every test: `ann` may act, and `bob` is read-only.
    static func configuration(_ database: ConnectionOptions) -> DashboardConfiguration {
        var configuration = DashboardConfiguration(
            database: database,
            users: [
                .init(name: "ann", password: hash, role: .operator),
                .init(name: "bob", password: hash, role: .readOnly),
            ]
        )
        configuration.queryTimeout = .seconds(30)
        configuration.hosts = ["dashboard.test"]
        return configuration
    }

    /// Logs in through the form, as a browser would.
    func logIn(_ user: String, password: String = TestSite.password) async throws -> Visitor {
        var visitor = Visitor(site: site)
        let page = await visitor.get("/login")
        #expect(page.status == 200)
        let answer = await visitor.post(
            "/login",
            ["user": user, "password": password],
            token: try visitor.loginToken()
        )
        try #require(answer.status == 303, "\(answer.text)")
        return visitor
    }
}

/// Behaves like a browser as far as the dashboard can tell: it keeps cookies, and sends the tokens of forms.
struct Visitor {
    var site: Site
    var cookies: [String: String] = [:]
    var headers: [String: [String]] = ["host": ["dashboard.test"]]
    var peer = "192.0.2.7"

    mutating func get(_ path: String, _ query: String = "") async -> WebAnswer {
        var request = WebRequest(method: .get, path: path, headers: allHeaders, peer: peer)
        request.query = FormValues(query)
        return await send(request)
    }

    /// - Parameter token: The form's token. Defaults to the session's own.
    mutating func post(_ path: String, _ form: [String: String], token: String? = nil) async -> WebAnswer {
        var request = WebRequest(method: .post, path: path, headers: allHeaders, peer: peer)
        let values = form.merging(["token": token ?? formToken]) { given, _ in given }
        request.form = FormValues(values.map { "\($0)=\(FormValues.encoded($1))" }.joined(separator: "&"))
        return await send(request)
    }

    /// The token in the session's forms.
    var formToken: String {
        let request = WebRequest(method: .get, path: "/", headers: allHeaders, peer: peer)
        return site.gate.viewer(of: request).map { site.gate.formToken(of: $0) } ?? ""
    }

    func loginToken() throws -> String { try #require(cookies["breakwater-login"]) }

    private var allHeaders: [String: [String]] {
        headers.merging(["cookie": [cookies.map { "\($0)=\($1)" }.joined(separator: "; ")]]) { given, _ in given }
    }

    private mutating func send(_ request: WebRequest) async -> WebAnswer {
        let answer = await site.answer(request)
        for (name, value) in answer.headers where name == "set-cookie" {
            let pair = value.split(separator: ";")[0].split(separator: "=", maxSplits: 1)
            cookies[String(pair[0])] = pair.count > 1 ? String(pair[1]) : nil
        }
        return answer
    }
}

extension WebAnswer {
    var text: String { String(decoding: body, as: UTF8.self) }

    func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }
}

/// Runs a test with a dashboard on a database of its own. Its bulk runs are worked off meanwhile.
func withSite(
    _ configure: (inout DashboardConfiguration) -> Void = { _ in },
    _ body: @escaping @Sendable (TestSite) async throws -> Void
) async throws {
    try await withTestDatabase { database in
        var configuration = TestSite.configuration(database.options)
        configure(&configuration)
        let site = Site(configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await site.runs.run() }
            do {
                try await body(TestSite(site: site, database: database))
            } catch {
                group.cancelAll()
                await site.database.close()
                throw error
            }
            group.cancelAll()
        }
        await site.database.close()
    }
}

/// Texts that have broken other pages: markup, quotes, strings of other scripts, invisible and reversing characters.
let hostileTexts = [
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "'><svg/onload=alert(1)>",
    "</textarea><script>alert(1)</script>",
    "</title><script>alert(1)</script>", "javascript:alert(1)", "&lt;script&gt;alert(1)&lt;/script&gt;",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "`onmouseover=alert(1)`", "--><script>alert(1)</script>", "]]><script>alert(1)</script>", "\u{202E}gpj.exe",
    "a\u{200B}b\u{FEFF}c",
    "\u{1}\u{8}\u{1B}[31mred", "%3Cscript%3Ealert(1)%3C/script%3E", "<a href=\"//evil.test/\">x</a>",
    "<base href=//evil.test/>",
    "<meta http-equiv=refresh content=0;url=//evil.test>", "<form action=//evil.test><button>",
    "𝔘𝔫𝔦 \u{1F469}\u{200D}\u{1F4BB} ﷽",
]
