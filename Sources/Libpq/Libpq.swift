/// Where and how to connect (placeholder until the shim lands).
public struct ConnectionOptions: Sendable {
    /// - Parameter conninfo: A libpq connection string or URL.
    public init(_ conninfo: String = "", applicationName: String = "breakwater") {}
}
