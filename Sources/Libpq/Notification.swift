/// A message that some session sent with `NOTIFY` or `pg_notify` on a channel this connection listens to.
public struct Notification: Sendable, Hashable {
    /// The channel it was sent on.
    public var channel: String
    /// Its text; empty when the sender gave none.
    public var payload: String
    /// The server process that sent it.
    public var backendPID: Int32

    /// Makes a notification, as a test of a listener would.
    public init(channel: String, payload: String, backendPID: Int32) {
        self.channel = channel
        self.payload = payload
        self.backendPID = backendPID
    }
}
