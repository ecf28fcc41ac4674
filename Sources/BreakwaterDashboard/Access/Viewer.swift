/// What a user may do. The second role includes the first.
public enum DashboardRole: String, Sendable, CaseIterable, Comparable {
    /// Looks at everything.
    case readOnly = "read-only"
    /// Looks at everything, and acts.
    case `operator` = "operator"

    /// Whether the first may do less.
    public static func < (left: DashboardRole, right: DashboardRole) -> Bool {
        left == .readOnly && right == .operator
    }
}

/// The user who asks.
struct Viewer: Sendable, Equatable {
    var name: String
    var role: DashboardRole
    /// Names the session, for what belongs to it; never shown.
    var session: String
    /// Whether there is a session here to end; a reverse proxy has its own.
    var canLogOut: Bool
}
