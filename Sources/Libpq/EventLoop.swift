import CLibpq
import Glibc
import Synchronization

/// The executor of one connection: a thread that runs the connection's jobs and waits for its socket with `poll`.
///
/// The thread lives from ``start(_:)`` until the wire reports its end. Later jobs (calls on a closed connection) run on
/// a short-lived thread, so that no caller ever waits for a thread that has ended.
final class EventLoop: SerialExecutor {
    /// The condition to wait for: readiness of a socket, a deadline, or neither. A wake-up ends every wait.
    struct Interest: Sendable {
        var socket: CInt = -1
        var events: Int16 = 0
        var deadline: ContinuousClock.Instant?
    }

    /// idle → running → ended ⇄ draining.
    private enum Status { case idle, running, ended, draining }

    private struct State {
        var status = Status.idle
        var jobs: [UnownedJob] = []
        var posts: [@Sendable (isolated Wire) -> Void] = []
        /// Whether the thread is in `poll`, or about to be, and must be woken.
        var isWaiting = false
    }

    private let state = Mutex(State())
    /// The descriptor of wake-ups. The thread closes it at its end, under the lock that every writer holds.
    private let wakeFD: CInt
    /// The thread that runs jobs now; 0 for none.
    private let thread = Atomic<UInt>(0)

    /// Opens the descriptor that wakes the thread. Throws when the process has no descriptor left.
    init() throws(PostgresError) {
        wakeFD = eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK))
        if wakeFD < 0 {
            let said = String(cString: strerror(errno))
            throw PostgresError(.connectionFailed, "no descriptor for a connection: \(said)")
        }
    }

    /// Starts the thread, which retains `wire` until it ends. Called once.
    func start(_ wire: Wire) throws(PostgresError) {
        state.withLock { $0.status = .running }
        if !DetachedThread.start("postgres", { self.run(wire) }) {
            state.withLock { end(&$0) }
            throw PostgresError(.connectionFailed, "no thread for a connection: the system's limit is reached")
        }
    }

    /// Runs `body` on the thread soon, in the order of the posts. Does nothing after the thread has ended.
    func post(_ body: @escaping @Sendable (isolated Wire) -> Void) {
        state.withLock {
            guard $0.status == .running else { return }
            $0.posts.append(body)
            wake(&$0)
        }
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let mustDrain = state.withLock {
            $0.jobs.append(job)
            if $0.status == .running { wake(&$0) }
            guard $0.status == .ended else { return false }
            $0.status = .draining
            return true
        }
        // If no thread can be started, the caller's thread is used, because the remaining jobs only report the end.
        if mustDrain, !DetachedThread.start("postgres-end", { self.drain() }) { drain() }
    }

    func isIsolatingCurrentContext() -> Bool? {
        thread.load(ordering: .acquiring) == UInt(pthread_self())
    }

    func checkIsolated() {
        precondition(isIsolatingCurrentContext() == true, "not on the connection's thread")
    }

    private func run(_ wire: Wire) {
        thread.store(UInt(pthread_self()), ordering: .releasing)
        while true {
            runPending(wire)
            guard let interest = wire.assumeIsolated({ $0.prepareToWait() }) else { break }
            let isReady = wait(for: interest)
            if isReady { wire.assumeIsolated { $0.socketIsReady() } }
        }
        drain()
    }

    /// Runs the jobs and posts that have been enqueued. Further ones that they enqueue run in the next iteration.
    private func runPending(_ wire: Wire) {
        let (jobs, posts) = state.withLock {
            let pending = ($0.jobs, $0.posts)
            $0.jobs = []
            $0.posts = []
            return pending
        }
        for job in jobs { job.runSynchronously(on: asUnownedSerialExecutor()) }
        for post in posts { wire.assumeIsolated { post($0) } }
    }

    /// Runs the remaining jobs.
    private func drain() {
        thread.store(UInt(pthread_self()), ordering: .releasing)
        while true {
            let jobs = state.withLock {
                let jobs = $0.jobs
                $0.jobs = []
                if jobs.isEmpty {
                    thread.store(0, ordering: .releasing)
                    end(&$0)
                }
                return jobs
            }
            if jobs.isEmpty { return }
            for job in jobs { job.runSynchronously(on: asUnownedSerialExecutor()) }
        }
    }

    private func end(_ state: inout State) {
        if state.status == .running { close(wakeFD) }
        state.status = .ended
        state.posts = []
    }

    private func wake(_ state: inout State) {
        guard state.isWaiting else { return }
        state.isWaiting = false
        var one: UInt64 = 1
        _ = write(wakeFD, &one, MemoryLayout<UInt64>.size)
    }

    /// Waits for `interest`. Returns true when the socket is ready.
    private func wait(for interest: Interest) -> Bool {
        let hasWork = state.withLock {
            $0.isWaiting = $0.jobs.isEmpty && $0.posts.isEmpty
            return !$0.isWaiting
        }
        var descriptors = [
            pollfd(fd: wakeFD, events: Int16(POLLIN), revents: 0),
            pollfd(fd: interest.socket, events: interest.events, revents: 0),
        ]
        let timeout = hasWork ? 0 : interest.deadline.map(Self.milliseconds(until:)) ?? -1
        let ready = poll(&descriptors, 2, timeout)
        state.withLock { $0.isWaiting = false }
        if ready > 0, descriptors[0].revents != 0 {
            var count: UInt64 = 0
            _ = read(wakeFD, &count, MemoryLayout<UInt64>.size)
        }
        return ready > 0 && descriptors[1].revents != 0
    }

    /// The time until a deadline in milliseconds, rounded up so that the deadline has passed when `poll` returns.
    private static func milliseconds(until deadline: ContinuousClock.Instant) -> CInt {
        let (seconds, attoseconds) = (deadline - .now).components
        if seconds < 0 || attoseconds < 0 { return 0 }
        return CInt(min(seconds, 86_400)) * 1_000 + CInt(attoseconds / 1_000_000_000_000_000) + 1
    }
}
