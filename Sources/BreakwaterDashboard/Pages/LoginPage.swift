import BreakwaterEndpoints
import Logging

/// The login page.
enum LoginPage {
    /// The cookie whose value must match the login form's token, so that another site cannot log a user in.
    private static let cookie = "breakwater-login"

    @Sendable static func show(_ exchange: Exchange) async throws -> WebAnswer {
        if exchange.viewer != nil { return .redirect(Link("/")) }
        return page(exchange, status: 200, message: nil)
    }

    @Sendable static func logIn(_ exchange: Exchange) async throws -> WebAnswer {
        let (request, gate) = (exchange.request, exchange.site.gate)
        let sent = request.cookie(cookie) ?? ""
        guard gate.isFromHere(request), sent.utf8.count >= 32, Secret.isSame(sent, request.form["token"] ?? "") else {
            return page(exchange, status: 403, message: "This form was out of date; please try again.")
        }
        let name = (request.form["user"] ?? "").trimmed
        let password = request.form["password"] ?? ""
        guard name.utf8.count <= 100, password.utf8.count <= 1024 else {
            return page(exchange, status: 403, message: "The name or the password is wrong.")
        }
        let address = gate.client(of: request)
        let whence = address?.description ?? request.peer
        switch await gate.logIn(user: name, password: password, address: address) {
        case .welcome(let token):
            exchange.site.logger.notice("logged in", metadata: ["user": "\(name)", "peer": "\(whence)"])
            return .redirect(destination(request.form["to"]))
                .with(
                    "set-cookie",
                    gate.cookie(gate.cookieName, token, lifetime: exchange.site.configuration.sessionLifetime)
                )
                .with("set-cookie", gate.cookie(cookie, "", lifetime: .zero))
        case .refused:
            exchange.site.logger.notice("a login failed", metadata: ["user": "\(name)", "peer": "\(whence)"])
            return page(exchange, status: 403, message: "The name or the password is wrong.")
        case .throttled(let wait):
            let seconds = wait.components.seconds + 1
            return page(
                exchange,
                status: 429,
                message: "There were too many wrong passwords. Try again in \(Duration.seconds(seconds).short)."
            )
            .with("retry-after", "\(seconds)")
        case .busy:
            return page(exchange, status: 503, message: "Other logins are being checked. Try again in a moment.")
                .with("retry-after", "2")
        }
    }

    @Sendable static func logOut(_ exchange: Exchange) async throws -> WebAnswer {
        let gate = exchange.site.gate
        if let viewer = exchange.viewer { gate.logOut(viewer) }
        return .redirect(Link("/login")).with("set-cookie", gate.cookie(gate.cookieName, "", lifetime: .zero))
    }

    private static func page(_ exchange: Exchange, status: Int, message: String?) -> WebAnswer {
        let (request, gate) = (exchange.request, exchange.site.gate)
        // A cookie that the browser sent is reused, because the login page may be open in two tabs.
        let sent = request.cookie(cookie) ?? ""
        let token = sent.wholeMatch(of: /[0-9a-f]{64}/) != nil ? sent : Secret.random()
        let html = Layout(title: "Log in").page {
            el(.section, .class("login")) {
                el(.h1, text: "Log in")
                if let message { el(.p, .class("notice is-bad"), .named("role", "alert"), text: message) }
                el(.form, .named("method", "post"), .action(Link("/login"))) {
                    hidden("token", token)
                    hidden("to", request.form["to"] ?? request.query["to"] ?? "")
                    el(.label) {
                        "Name"
                        el(
                            .input,
                            .name("user"),
                            .named("autocomplete", "username"),
                            .flag("required"),
                            .flag("autofocus"),
                            .named("maxlength", "100"),
                            .named("autocapitalize", "none"),
                            .value(request.form["user"] ?? "")
                        )
                    }
                    el(.label) {
                        "Password"
                        el(
                            .input,
                            .type("password"),
                            .name("password"),
                            .named("autocomplete", "current-password"),
                            .flag("required"),
                            .named("maxlength", "1024")
                        )
                    }
                    el(.button, .class("primary"), text: "Log in")
                }
            }
        }
        return .page(html, status: status).with("set-cookie", gate.cookie(cookie, token, lifetime: .seconds(3600)))
    }

    /// The page to open after the login. Any path that is not listed leads to the overview.
    private static func destination(_ path: String?) -> Link {
        switch path ?? "" {
        case "/circuits": return Link("/circuits")
        case "/queues": return Link("/queues")
        case "/jobs": return Link("/jobs")
        case "/dead-letters": return Link("/dead-letters")
        case "/workers": return Link("/workers")
        case "/audit": return Link("/audit")
        case let path:
            if let match = path.wholeMatch(of: /\/jobs\/(\d{1,18})/), let id = Int64(match.1) {
                return Link("/jobs", id: id)
            }
            return Link("/")
        }
    }
}
