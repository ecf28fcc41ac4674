import CLibpq

/// A request that the server stop what a connection runs, over a connection of its own: `PQcancel` blocks, so it
/// runs on a thread apart.
struct CancelRequest: ~Copyable {
    private let key: OpaquePointer

    /// Copies what is needed from `connection`; nil when there is nothing to cancel or no memory.
    init?(_ connection: OpaquePointer) {
        guard let key = PQgetCancel(connection) else { return nil }
        self.key = key
    }

    /// Sends it. `then` is called once, on another thread, when the server has taken it or it failed: with nil, the
    /// signal has been given to the backend, and it can hit nothing that is sent from then on.
    consuming func send(_ then: @escaping @Sendable (_ failure: String?) -> Void) {
        // A PGcancel is a copy that nothing else refers to; the thread below is its only user and frees it.
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
