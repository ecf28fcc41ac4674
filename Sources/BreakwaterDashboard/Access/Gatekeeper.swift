import Synchronization

/// Decides who asks and what they may do: sessions of those who logged in, and what a trusted proxy says.
final class Gatekeeper: Sendable {
    private struct State: Sendable {
        var sessions: SessionStore
        var throttle = LoginThrottle()
        /// What each session is told on its next page.
        var notices: [String: Notice] = [:]
    }

    /// What came of an action.
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
    }

    private let configuration: DashboardConfiguration
    private let peers: Set<PeerAddress>
    private let state: Mutex<State>
    /// Signs the tokens of forms. Made anew with each start.
    private let key = Secret.random()
    private let checker = PasswordChecker()
    private static let mostNotices = 1000

    init(_ configuration: DashboardConfiguration) {
        self.configuration = configuration
        peers = Set((configuration.proxy?.peers ?? []).compactMap(PeerAddress.init))
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

    /// Who asks; nil for a stranger.
    func viewer(of request: WebRequest, now: ContinuousClock.Instant = .now) -> Viewer? {
        if let proxy = configuration.proxy, let peer = PeerAddress(request.peer), peers.contains(peer),
            let name = request.header(proxy.header.lowercased())?.trimmed, (1...100).contains(name.utf8.count)
        {
            let role: DashboardRole = proxy.operators.contains(name) ? .operator : .readOnly
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

    /// Checks a name and a password.
    func logIn(user name: String, password: String, peer: String) async -> Login {
        if let wait = state.withLock({ $0.throttle.wait(user: name, peer: peer, now: .now) }) {
            return .throttled(for: wait)
        }
        let user = configuration.users.first { $0.name == name }
        // As much work for a name that nobody has.
        let matches = await checker.matches(password, user?.password)
        guard matches, let user else {
            state.withLock { $0.throttle.failed(user: name, peer: peer, now: .now) }
            return .refused
        }
        return state.withLock { state in
            state.throttle.succeeded(user: name, peer: peer)
            return .welcome(token: state.sessions.begin(user: user.name, now: .now))
        }
    }

    /// Ends a session.
    func logOut(_ viewer: Viewer) {
        state.withLock {
            $0.sessions.end(id: viewer.session)
            $0.notices[viewer.session] = nil
        }
    }

    /// The token that a session's forms carry. Another site cannot know it.
    func formToken(of viewer: Viewer) -> String { Secret.code(of: "form:\(viewer.session)", key: key) }

    /// Whether a form was made for this session, by us.
    func isGenuine(_ request: WebRequest, from viewer: Viewer) -> Bool {
        isFromHere(request) && Secret.isSame(request.form["token"] ?? "", formToken(of: viewer))
    }

    /// Whether a browser says that the request comes from a page of this site; one that says nothing is believed so far.
    func isFromHere(_ request: WebRequest) -> Bool {
        if let site = request.header("sec-fetch-site"), !["same-origin", "none"].contains(site) { return false }
        guard let origin = request.header("origin") else { return true }
        guard let host = request.header("host") else { return false }
        return origin == "http://\(host)" || origin == "https://\(host)"
    }

    /// Leaves a word for the session's next page.
    func leave(_ notice: Notice, for viewer: Viewer) {
        state.withLock { state in
            if state.notices.count >= Self.mostNotices { state.notices = [:] }
            state.notices[viewer.session] = notice
        }
    }

    /// Takes the word that was left, if one was.
    func takeNotice(for viewer: Viewer) -> Notice? {
        state.withLock { $0.notices.removeValue(forKey: viewer.session) }
    }
}

/// Compares passwords, one at a time: so many logins at once take no more memory than one.
private actor PasswordChecker {
    /// What is compared where there is no such user.
    private let nobody = PasswordHash(password: Secret.random())

    func matches(_ password: String, _ hash: PasswordHash?) -> Bool {
        let matches = (hash ?? nobody).matches(password)
        return matches && hash != nil
    }
}
