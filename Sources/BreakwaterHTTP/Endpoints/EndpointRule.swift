/// When an endpoint is disabled, and what happens to its jobs then.
public struct EndpointRule: Sendable, Equatable {
    /// What happens to the jobs of a disabled endpoint.
    public enum WhenDisabled: String, Sendable, CaseIterable {
        /// The jobs wait until the endpoint is enabled. They spend no attempts.
        case hold
        /// The jobs become dead letters, which can be redelivered.
        case deadLetter = "dead_letter"
    }

    /// The limits of ``disableAfter``.
    public static let disableAfterLimits = Duration.seconds(60)...(.seconds(86_400 * 366))

    /// An endpoint is disabled when all of its deliveries have failed for this long, or at once when it answers 410
    /// (Gone); 1 minute to 366 days, nil for never. An endpoint's own `disable_after` goes before it. Defaults to nil.
    public var disableAfter: Duration?
    /// What happens to the jobs of a disabled endpoint. Defaults to hold.
    public var whenDisabled = WhenDisabled.hold

    /// The defaults.
    public init() {}

    func validate() throws {
        if let disableAfter, !Self.disableAfterLimits.contains(disableAfter) {
            throw HTTPPluginError(.invalidLimit, "disableAfter is \(disableAfter): it must be 1 minute to 366 days")
        }
    }
}
