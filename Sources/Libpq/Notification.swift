/// A message that some session sent with `NOTIFY` or `pg_notify` on a channel this connection listens to.
public struct Notification: Sendable, Hashable {
    /// The channel on which it was sent.
    public var channel: String
    /// The text; empty when the sender gave none.
    public var payload: String
    /// The server process that sent it.
    public var backendPID: Int32

    /// Makes a notification, for tests of listeners.
    public init(channel: String, payload: String, backendPID: Int32) {
        self.channel = channel
        self.payload = payload
        self.backendPID = backendPID
    }
}
