/// The sessions of logged-in users. They are kept only in memory, so every user must log in again after a restart.
struct SessionStore: Sendable {
    typealias Instant = ContinuousClock.Instant

    struct Session: Sendable {
        var user: String
        var began: Instant
        var lastSeen: Instant
    }

    /// The longest time that a session lasts.
    var lifetime: Duration
    /// How long a session lasts without a request. Automatic refreshes do not count as requests.
    var idleTime: Duration
    /// The most sessions of one user. A further login ends the user's oldest session, so it never ends another user's.
    static let mostOfUser = 20

    /// The sessions by the HMAC of their token, so that the time of a look-up reveals nothing about tokens.
    private(set) var sessions: [String: Session] = [:]
    private let key = Secret.random()

    init(lifetime: Duration, idleTime: Duration) {
        self.lifetime = lifetime
        self.idleTime = idleTime
    }

    /// Begins a session.
    ///
    /// - Returns: The token for the cookie.
    mutating func begin(user: String, now: Instant) -> String {
        sessions = sessions.filter { isAlive($0.value, now: now) }
        let own = sessions.filter { $0.value.user == user }
        if own.count >= Self.mostOfUser, let oldest = own.min(by: { $0.value.began < $1.value.began }) {
            sessions[oldest.key] = nil
        }
        let token = Secret.random()
        sessions[id(of: token)] = Session(user: user, began: now, lastSeen: now)
        return token
    }

    /// The session of a token, and its id; nil when there is none or it has expired.
    mutating func find(token: String, isRefresh: Bool, now: Instant) -> (id: String, session: Session)? {
        let id = id(of: token)
        guard var session = sessions[id] else { return nil }
        guard isAlive(session, now: now) else {
            sessions[id] = nil
            return nil
        }
        if !isRefresh {
            session.lastSeen = now
            sessions[id] = session
        }
        return (id, session)
    }

    /// Ends a session.
    mutating func end(id: String) { sessions[id] = nil }

    private func isAlive(_ session: Session, now: Instant) -> Bool {
        now - session.began < lifetime && now - session.lastSeen < idleTime
    }

    private func id(of token: String) -> String { Secret.code(of: token, key: key) }
}
