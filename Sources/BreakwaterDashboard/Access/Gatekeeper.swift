import BreakwaterEndpoints
import Synchronization

/// Determines the user of a request and what the user may do: from the sessions of logged-in users, and from the
/// headers of a trusted proxy.
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

    /// The result of a login.
    enum Login: Equatable {
        /// The login succeeded. The token is for the cookie.
        case welcome(token: String)
        case refused
        case throttled(for: Duration)
        /// Too many passwords are being checked, so this one was not.
        case busy
    }

    private let configuration: DashboardConfiguration
    private let peers: [AddressRange]
    private let proxies: TrustedProxies
    /// The hash to compare a password with if there is no such user; nil if no user has a password.
    private let nobody: PasswordHash?
    private let state: Mutex<State>
    /// The key that signs the tokens of forms. Each start of the dashboard makes a new one.
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

    /// The name of the cookie with the session's token. With the prefix, browsers accept it only from this exact host
    /// over HTTPS.
    var cookieName: String { configuration.securesCookies ? "__Host-breakwater" : "breakwater" }

    /// A cookie for this host alone, which scripts cannot read and requests from other sites do not include.
    func cookie(_ name: String, _ value: String, lifetime: Duration?) -> String {
        let age = lifetime.map { "; Max-Age=\($0.components.seconds)" } ?? ""
        return "\(name)=\(value)\(age); Path=/; HttpOnly; SameSite=Lax\(configuration.securesCookies ? "; Secure" : "")"
    }

    /// The user who sent the request; nil if no user is logged in.
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

    /// The user whom the reverse proxy names. The request must come from one of the proxy's addresses and contain the
    /// secret, because another program may connect from the same address but does not know the secret.
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
    /// - Parameter address: The client's address; nil if unknown.
    func logIn(user name: String, password: String, address: ClientAddress?) async -> Login {
        guard let nobody else { return .refused }
        let client = address?.client
        if let wait = state.withLock({ $0.throttle.admit(user: name, client: client, now: .now) }) {
            return .throttled(for: wait)
        }
        let user = configuration.users.first { $0.name == name }
        // A login with an unknown name costs the same work, so that the time does not reveal which names exist.
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

    /// The token in the session's forms. Other sites cannot know it.
    func formToken(of viewer: Viewer) -> String { Secret.code(of: "form:\(viewer.session)", key: key) }

    /// Whether the dashboard made the form for this session.
    func isGenuine(_ request: WebRequest, from viewer: Viewer) -> Bool {
        isFromHere(request) && Secret.isSame(request.form["token"] ?? "", formToken(of: viewer))
    }

    /// Whether the request comes from a page of this site, according to the browser's headers. A request without such
    /// headers passes.
    func isFromHere(_ request: WebRequest) -> Bool {
        if let site = request.header("sec-fetch-site"), !["same-origin", "none"].contains(site) { return false }
        guard let origin = request.header("origin") else { return true }
        guard let host = request.header("host") else { return false }
        return origin == "http://\(host)" || origin == "https://\(host)"
    }

    /// Stores a notice for the session's next page. Each session has at most one. If there are too many in all, the
    /// oldest are dropped.
    func leave(_ notice: Notice, for viewer: Viewer) {
        state.withLock { state in
            state.notices.removeAll { $0.session == viewer.session }
            state.notices.append((viewer.session, notice))
            state.notices.removeFirst(max(0, state.notices.count - Self.mostNotices))
        }
    }

    /// Removes and returns the session's notice, if there is one.
    func consumeNotice(for viewer: Viewer) -> Notice? {
        state.withLock { state in
            let place = state.notices.firstIndex { $0.session == viewer.session }
            return place.map { state.notices.remove(at: $0).notice }
        }
    }
}
