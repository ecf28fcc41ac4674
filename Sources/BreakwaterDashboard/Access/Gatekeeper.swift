import BreakwaterEndpoints
import Synchronization

/// Decides which user asks and what they may do: by the sessions of logged-in users, and by what a trusted proxy says.
final class Gatekeeper: Sendable {
    private struct State: Sendable {
        var sessions: SessionStore
        var throttle = LoginThrottle()
        /// The notices that each session sees on its next page, the latest last.
        var notices: [(session: String, notice: Notice)] = []
    }

    /// The result of an action.
    struct Notice: Sendable, Equatable {
        var text: String
        var isFailure = false
    }

    /// How a login ended.
    enum Login: Equatable {
        /// With the token for the cookie.
        case welcome(token: String)
        case refused
        case throttled(for: Duration)
        /// Too many passwords are being checked; this one was not.
        case busy
    }

    private let configuration: DashboardConfiguration
    private let peers: [AddressRange]
    private let proxies: TrustedProxies
    /// The hash to compare a password with if there is no such user; nil if no user has a password.
    private let nobody: PasswordHash?
    private let state: Mutex<State>
    /// Signs the tokens of forms. Made anew with each start.
    private let key = Secret.random()
    private let checker = PasswordChecker()
    private static let mostNotices = 1000

    init(_ configuration: DashboardConfiguration) {
        self.configuration = configuration
        peers = (configuration.proxy?.peers ?? []).compactMap(AddressRange.init)
        proxies = TrustedProxies(configuration.trustedProxies)
        nobody = configuration.users.map(\.password).max { $0.work < $1.work }.map(PasswordHash.init(like:))
        state = Mutex(
            State(
                sessions: SessionStore(
                    lifetime: configuration.sessionLifetime,
                    idleTime: configuration.sessionIdleTime
                )
            )
        )
    }

    /// The cookie with the session's token. With the prefix, browsers take it from this very host over HTTPS only.
    var cookieName: String { configuration.securesCookies ? "__Host-breakwater" : "breakwater" }

    /// A cookie for this host alone, out of reach of scripts, and left out of requests that other sites make.
    func cookie(_ name: String, _ value: String, lifetime: Duration?) -> String {
        let age = lifetime.map { "; Max-Age=\($0.components.seconds)" } ?? ""
        return "\(name)=\(value)\(age); Path=/; HttpOnly; SameSite=Lax\(configuration.securesCookies ? "; Secure" : "")"
    }

    /// The user who asks; nil if no user is logged in.
    func viewer(of request: WebRequest, now: ContinuousClock.Instant = .now) -> Viewer? {
        if let name = userOfProxy(request) {
            let role: DashboardRole = configuration.proxy?.operators.contains(name) == true ? .operator : .readOnly
            return Viewer(name: name, role: role, session: "proxy:\(name)", canLogOut: false)
        }
        guard let token = request.cookie(cookieName), token.utf8.count <= 128 else { return nil }
        let isRefresh = request.header("x-refresh") != nil
        let found = state.withLock { $0.sessions.find(token: token, isRefresh: isRefresh, now: now) }
        guard let found, let user = configuration.users.first(where: { $0.name == found.session.user }) else {
            return nil
        }
        return Viewer(name: user.name, role: user.role, session: found.id, canLogOut: true)
    }

    /// The user whom the reverse proxy names. The proxy must ask from one of its addresses and know the secret: another
    /// program that can connect from there, such as one on the same machine, does not know it.
    private func userOfProxy(_ request: WebRequest) -> String? {
        guard let proxy = configuration.proxy, let peer = ClientAddress(request.peer),
            peers.contains(where: { $0.contains(peer) }),
            Secret.isSame(request.header(proxy.secretHeader.lowercased()) ?? "", proxy.secret),
            let name = request.header(proxy.header.lowercased())?.trimmed, (1...100).contains(name.utf8.count)
        else { return nil }
        return name
    }

    /// The address that a request comes from, according to trusted proxies.
    func client(of request: WebRequest) -> ClientAddress? { proxies.client(of: request) }

    /// Checks a name and a password.
    ///
    /// - Parameter address: Where it comes from; nil if unknown.
    func logIn(user name: String, password: String, address: ClientAddress?) async -> Login {
        guard let nobody else { return .refused }
        let client = address?.client
        if let wait = state.withLock({ $0.throttle.admit(user: name, client: client, now: .now) }) {
            return .throttled(for: wait)
        }
        let user = configuration.users.first { $0.name == name }
        // An unknown name takes as much work as a known one.
        let verdict = await checker.check(password, user?.password ?? nobody, for: client)
        return state.withLock { state in
            switch (verdict, user) {
            case (.busy, _):
                state.throttle.withdraw(user: name, client: client)
                return .busy
            case (.right, let user?):
                state.throttle.succeeded(user: name, client: client)
                return .welcome(token: state.sessions.begin(user: user.name, now: .now))
            case (.wrong, _), (.right, nil):
                state.throttle.failed(user: name, client: client, now: .now)
                return .refused
            }
        }
    }

    /// Ends a session.
    func logOut(_ viewer: Viewer) {
        state.withLock {
            $0.sessions.end(id: viewer.session)
            $0.notices.removeAll { $0.session == viewer.session }
        }
    }

    /// The token that a session's forms carry. Another site cannot know it.
    func formToken(of viewer: Viewer) -> String { Secret.code(of: "form:\(viewer.session)", key: key) }

    /// Whether a form was made for this session, by us.
    func isGenuine(_ request: WebRequest, from viewer: Viewer) -> Bool {
        isFromHere(request) && Secret.isSame(request.form["token"] ?? "", formToken(of: viewer))
    }

    /// Whether a browser says that the request comes from a page of this site; one that says nothing is believed so
    /// far.
    func isFromHere(_ request: WebRequest) -> Bool {
        if let site = request.header("sec-fetch-site"), !["same-origin", "none"].contains(site) { return false }
        guard let origin = request.header("origin") else { return true }
        guard let host = request.header("host") else { return false }
        return origin == "http://\(host)" || origin == "https://\(host)"
    }

    /// Leaves a notice for the session's next page. There is one for each session; if there are too many, the oldest
    /// go.
    func leave(_ notice: Notice, for viewer: Viewer) {
        state.withLock { state in
            state.notices.removeAll { $0.session == viewer.session }
            state.notices.append((viewer.session, notice))
            state.notices.removeFirst(max(0, state.notices.count - Self.mostNotices))
        }
    }

    /// Takes the notice that was left, if one was.
    func takeNotice(for viewer: Viewer) -> Notice? {
        state.withLock { state in
            let place = state.notices.firstIndex { $0.session == viewer.session }
            return place.map { state.notices.remove(at: $0).notice }
        }
    }
}
