import CLibpq

/// A request to cancel the running statement of a connection, which is sent over a separate connection. `PQcancel`
/// blocks, so it runs on a separate thread.
struct CancelRequest: ~Copyable {
    private let key: OpaquePointer

    /// Copies the needed data from `connection`. Returns nil when there is nothing to cancel or no memory.
    init?(_ connection: OpaquePointer) {
        guard let key = PQgetCancel(connection) else { return nil }
        self.key = key
    }

    /// Sends the request. `then` is called once, on another thread, when the server has received it or it failed. With
    /// nil, the backend has received the signal, so it cannot affect anything that is sent from then on.
    consuming func send(_ then: @escaping @Sendable (_ failure: String?) -> Void) {
        // A PGcancel is a copy without other references. The thread below is its only user and frees it.
        nonisolated(unsafe) let key = key
        let isStarted = DetachedThread.start("postgres-cancel") {
            var buffer = [CChar](repeating: 0, count: 256)
            let isSent = PQcancel(key, &buffer, Int32(buffer.count)) == 1
            PQfreeCancel(key)
            let said = String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            then(isSent ? nil : PostgresError.tidy(said))
        }
        if !isStarted {
            PQfreeCancel(key)
            then("the system has no thread for it")
        }
    }
}
