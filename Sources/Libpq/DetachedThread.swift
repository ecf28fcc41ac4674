import CLibpq
package import Glibc

/// Starts threads for C calls that block, detached unless they are to be waited for.
package enum DetachedThread {
    /// Carries the closure over pthread's untyped pointer.
    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// The size of the stack, which is ample for libpq, OpenSSL and the resolver. Memory is only used when it is
    /// touched.
    private static let stackBytes = 1 << 20

    /// Runs `body` on a new thread, which ends with it. Returns false when the system cannot create a thread.
    ///
    /// The thread blocks all signals except faults. So the program's handlers run on the program's own threads, and a
    /// SIGPIPE that libpq causes stays pending here and disappears with the thread.
    package static func start(_ name: String, _ body: @escaping @Sendable () -> Void) -> Bool {
        create(name, stackBytes: stackBytes, isDetached: true, body) != nil
    }

    /// Runs `body` on a new thread that ``end(_:)`` waits for. Returns nil when the system cannot create a thread.
    ///
    /// - Parameters:
    ///   - name: The name, of at most 15 bytes.
    ///   - stackBytes: The size of the stack. Memory is only used when it is touched.
    ///   - body: What the thread does. The thread blocks all signals except faults.
    package static func startJoinable(
        _ name: String,
        stackBytes: Int,
        _ body: @escaping @Sendable () -> Void
    ) -> pthread_t? {
        create(name, stackBytes: stackBytes, isDetached: false, body)
    }

    /// Blocks until a thread has ended, once for each thread that ``startJoinable(_:stackBytes:_:)`` started.
    package static func end(_ thread: pthread_t) { pthread_join(thread, nil) }

    private static func create(
        _ name: String,
        stackBytes: Int,
        isDetached: Bool,
        _ body: @escaping @Sendable () -> Void
    ) -> pthread_t? {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        if isDetached { pthread_attr_setdetachstate(&attributes, CInt(PTHREAD_CREATE_DETACHED)) }
        pthread_attr_setstacksize(&attributes, stackBytes)

        let box = Unmanaged.passRetained(
            Body {
                blockSignals()
                breakwater_name_thread(name)
                body()
            }
        )
        var thread = pthread_t()
        let failed = pthread_create(
            &thread,
            &attributes,
            { raw in
                // The pointer is the box that was retained for this thread, which takes over that reference.
                if let raw { Unmanaged<Body>.fromOpaque(raw).takeRetainedValue().run() }
                return nil
            },
            box.toOpaque()
        )
        if failed != 0 { box.release() }
        return failed == 0 ? thread : nil
    }

    private static func blockSignals() {
        var signals = sigset_t()
        sigfillset(&signals)
        for fault in [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT] { sigdelset(&signals, fault) }
        pthread_sigmask(SIG_SETMASK, &signals, nil)
    }
}
