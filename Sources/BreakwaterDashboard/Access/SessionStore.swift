/// Who is logged in. It is kept in memory: when the dashboard restarts, every user logs in again.
struct SessionStore: Sendable {
    typealias Instant = ContinuousClock.Instant

    struct Session: Sendable {
        var user: String
        var began: Instant
        var lastSeen: Instant
    }

    /// How long a session lasts, at most.
    var lifetime: Duration
    /// How long it lasts without a request. Pages that refresh themselves count as none.
    var idleTime: Duration
    /// One user has no more: a further one ends the user's oldest. So one user's logins never end another user's.
    static let mostOfUser = 20

    /// By the token's code, so that the time of a look-up reveals nothing about tokens.
    private(set) var sessions: [String: Session] = [:]
    private let key = Secret.random()

    init(lifetime: Duration, idleTime: Duration) {
        self.lifetime = lifetime
        self.idleTime = idleTime
    }

    /// Begins one.
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

    /// The session of a token, and its id; nil when there is none or it is over.
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

    /// Ends one.
    mutating func end(id: String) { sessions[id] = nil }

    private func isAlive(_ session: Session, now: Instant) -> Bool {
        now - session.began < lifetime && now - session.lastSeen < idleTime
    }

    private func id(of token: String) -> String { Secret.code(of: token, key: key) }
}
