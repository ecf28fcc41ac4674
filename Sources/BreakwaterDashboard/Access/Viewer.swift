/// What a user may do. The second role includes the first.
public enum DashboardRole: String, Sendable, CaseIterable, Comparable {
    /// May view everything.
    case readOnly = "read-only"
    /// May view everything, and make changes.
    case `operator` = "operator"

    /// Whether the first role may do less.
    public static func < (left: DashboardRole, right: DashboardRole) -> Bool {
        left == .readOnly && right == .operator
    }
}

/// The user of a request.
struct Viewer: Sendable, Equatable {
    var name: String
    var role: DashboardRole
    /// Identifies the session. It is never shown.
    var session: String
    /// Whether the user has a session of the dashboard that can be ended. A user of a reverse proxy has none.
    var canLogOut: Bool
}
