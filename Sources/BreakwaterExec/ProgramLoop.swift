import Breakwater
import BreakwaterProcess
import CProcess
import Glibc
import Libpq
import Synchronization

/// Starts all programs of the process on one thread, which waits for their streams and their exits.
///
/// Tasks put programs and stops into a queue and wake the thread. One thread suffices, because it takes a fraction of a
/// millisecond for each program, most of it within `posix_spawn`, and a program that runs takes none.
final class ProgramLoop: Sendable {
    /// How a program ended.
    enum Result: Sendable {
        case ended(ProgramRun.Ending)
        /// The program did not start, for the reason with this error number.
        case notStarted(Int32)
        /// The task was cancelled before the program started.
        case cancelled
    }

    /// The loop, which is made for the first program. If that fails, the next program tries again.
    private static let loop = Mutex<ProgramLoop?>(nil)

    /// The name of the descriptor that wakes the thread.
    private static let wakeName = UInt64.max
    /// The most descriptors that are served before the queue is looked at again.
    private static let batch: Int32 = 64

    private enum Command {
        case start(UInt64, ProgramRun.Program, CheckedContinuation<Result, Never>)
        case stop(UInt64)
    }

    private struct Queue {
        var commands: [Command] = []
        var lastID: UInt64 = 0
    }

    private let queue = Mutex(Queue())
    /// The descriptors of the set of descriptors that the thread waits for, and of the event that wakes it.
    private let set: Int32
    private let wakeUp: Int32

    /// - Throws: The error number of what failed.
    private init() throws(ProgramError) {
        set = breakwater_make_set()
        guard set >= 0 else { throw ProgramError(number: errno) }
        wakeUp = breakwater_make_event()
        let isWatched =
            wakeUp >= 0 && breakwater_watch(set, EPOLL_CTL_ADD, wakeUp, EPOLLIN.rawValue, Self.wakeName) == 0
        guard isWatched else {
            let number = errno
            close(set)
            if wakeUp >= 0 { close(wakeUp) }
            throw ProgramError(number: number)
        }
    }

    /// The error number of what failed.
    private struct ProgramError: Error { var number: Int32 }

    /// Runs a program to its end. If the task is cancelled, the program is asked to end.
    static func run(_ program: ProgramRun.Program) async -> Result {
        do {
            return await (try shared()).run(program)
        } catch {
            return .notStarted(error.number)
        }
    }

    private static func shared() throws(ProgramError) -> ProgramLoop {
        try loop.withLock { loop throws(ProgramError) in
            if let loop { return loop }
            let made = try ProgramLoop()
            try made.startThread()
            loop = made
            return made
        }
    }

    private func run(_ program: ProgramRun.Program) async -> Result {
        let id = queue.withLock { queue in
            queue.lastID += 1
            return queue.lastID
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isCancelled = queue.withLock { queue in
                    // The check is within the lock, so a cancellation that happens later queues its command after this
                    // one.
                    if Task.isCancelled { return true }
                    queue.commands.append(.start(id, program, continuation))
                    return false
                }
                if isCancelled { continuation.resume(returning: .cancelled) } else { wake() }
            }
        } onCancel: {
            queue.withLock { $0.commands.append(.stop(id)) }
            wake()
        }
    }

    private func wake() {
        var one: UInt64 = 1
        // The write fails only if the counter is full, and then the thread is awake.
        _ = write(wakeUp, &one, MemoryLayout<UInt64>.size)
    }

    // MARK: The thread

    /// The thread runs as long as the process.
    private func startThread() throws(ProgramError) {
        guard DetachedThread.start("breakwater-exec", { self.serve() }) else {
            close(set)
            close(wakeUp)
            throw ProgramError(number: EAGAIN)
        }
    }

    private func serve() -> Never {
        var runs: [UInt64: ProgramRun] = [:]
        var continuations: [UInt64: CheckedContinuation<Result, Never>] = [:]
        var stopping: Set<UInt64> = []
        var names = [UInt64](repeating: 0, count: Int(Self.batch))
        func end(_ id: UInt64, _ result: Result) {
            runs[id] = nil
            stopping.remove(id)
            continuations.removeValue(forKey: id)?.resume(returning: result)
        }
        while true {
            let commands = queue.withLock { queue in
                defer { queue.commands = [] }
                return queue.commands
            }
            for command in commands {
                switch command {
                case .start(let id, let program, let continuation):
                    switch ProgramRun.start(program, id: id, set: set) {
                    case .success(let run):
                        runs[id] = run
                        continuations[id] = continuation
                    case .failure(let failure): continuation.resume(returning: .notStarted(failure.number))
                    }
                case .stop(let id):
                    guard let run = runs[id] else { continue }
                    run.stop()
                    stopping.insert(id)
                }
            }
            let next = stopping.compactMap { runs[$0]?.killTime }.min()
            let ready = breakwater_wait(set, &names, Self.batch, Self.milliseconds(until: next))
            for name in names.prefix(max(0, Int(ready))) {
                if name == Self.wakeName {
                    var count: UInt64 = 0
                    _ = read(wakeUp, &count, MemoryLayout<UInt64>.size)
                } else if let run = runs[ProgramRun.id(of: name)], let ending = run.serve(name) {
                    end(ProgramRun.id(of: name), .ended(ending))
                }
            }
            if next != nil {
                for id in stopping { runs[id]?.killIfDue() }
            }
        }
    }

    /// How long to wait; -1 for as long as nothing happens.
    private static func milliseconds(until time: ContinuousClock.Instant?) -> Int32 {
        guard let time else { return -1 }
        let left = time - .now
        return Int32(clamping: max(0, Int64((left.inSeconds * 1000).rounded(.up))))
    }
}
