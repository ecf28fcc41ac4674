/// What is kept of a kind's jobs after they have ended, in `breakwater.finished_job`.
///
/// ```swift
/// settings.history = JobHistory(keep: .seconds(7 * 86_400), key: ["customer"])
/// ```
public struct JobHistory: Sendable, Equatable {
    /// How long a finished job is kept, 1 hour to ten years (3650 days).
    public var keep: Duration
    /// Whether the payload is kept too. Defaults to false.
    public var payload: Bool
    /// The path of the payload's value that says whom or what a job is for, such as `["customer"]`. A finished job is
    /// found by this value. nil: the path of the circuit's key, else that of the order, of the share, or of the first
    /// limit with a key. Defaults to nil.
    public var key: [String]?

    /// - Parameters:
    ///   - keep: How long a finished job is kept, 1 hour to ten years.
    ///   - payload: Whether the payload is kept too. Defaults to false.
    ///   - key: The path of the payload's value by which a finished job is found. Defaults to nil.
    public init(keep: Duration, payload: Bool = false, key: [String]? = nil) {
        self.keep = keep
        self.payload = payload
        self.key = key
    }
}

extension JobHistory {
    /// The invalid settings, each with its key, its value and what is allowed.
    var faults: [String] {
        var faults = SettingFaults()
        faults.check("keep", keep, SettingLimits.keepHistory)
        faults.require(key?.isEmpty != true, "key is an empty path; it must name a value of the payload")
        return faults.faults
    }
}

extension HandlerSettings {
    /// The path of the value by which finished jobs are found; nil for none.
    var historyKey: [String]? {
        guard let history else { return nil }
        if let key = history.key { return key }
        if case .path(let path)? = circuit.key { return path }
        return order?.key ?? share ?? limits.lazy.compactMap(\.key).first
    }
}
