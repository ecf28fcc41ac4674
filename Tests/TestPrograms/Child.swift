import CSpawn
import Foundation
import Glibc
import Synchronization

/// A program that a test started, as a child process in a process group of its own.
///
/// A thread of its own waits for each child. Foundation's `Process` is not used, because it sometimes misses the end of
/// a child among the hundreds that tests start while other tests hold a thousand descriptors.
public final class Child: Sendable {
    /// The source or the target of a standard stream.
    public enum Stream: Sendable {
        case null
        case inherited
        /// A file, written from its start, and created if it does not exist.
        case file(String)
        case descriptor(Int32)
    }

    private struct State {
        var status: Int32?
        var waiting: [CheckedContinuation<Int32, Never>] = []
    }

    /// Its process id, which is also the id of its process group.
    public let processIdentifier: Int32
    private let state = Mutex(State())

    /// Starts it.
    ///
    /// - Parameters:
    ///   - program: The executable's path.
    ///   - arguments: The arguments after the program's name.
    ///   - environment: Its whole environment. Defaults to the test's own.
    ///   - directory: Its working directory. Defaults to the test's own.
    ///   - input: Its standard input. Defaults to nothing.
    ///   - output: Its standard output. Defaults to the test's own.
    ///   - errors: Its standard error. Defaults to the test's own.
    /// - Throws: `POSIXError` if it cannot be started.
    public init(
        _ program: String,
        _ arguments: [String] = [],
        environment: [String: String]? = nil,
        directory: String? = nil,
        input: Stream = .null,
        output: Stream = .inherited,
        errors: Stream = .inherited
    ) throws {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        for (number, stream) in [(Int32(0), input), (1, output), (2, errors)] { stream.add(as: number, to: &actions) }
        posix_spawn_file_actions_addclosefrom_np(&actions, 3)
        if let directory { posix_spawn_file_actions_addchdir_np(&actions, directory) }

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setpgroup(&attributes, 0)
        let flags = POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF
        posix_spawnattr_setflags(&attributes, Int16(flags))

        let variables = environment ?? ProcessInfo.processInfo.environment
        var process: pid_t = 0
        let code = Self.withCStrings([program] + arguments) { arguments in
            Self.withCStrings(variables.map { "\($0)=\($1)" }) { environment in
                posix_spawn(&process, program, &actions, &attributes, arguments, environment)
            }
        }
        guard code == 0 else { throw POSIXError(POSIXErrorCode(rawValue: code) ?? .EINVAL) }
        processIdentifier = process
        Thread { self.wait() }.start()
    }

    /// Its exit status once it has ended, or 128 and the signal's number if a signal ended it.
    public var status: Int32? { state.withLock { $0.status } }

    /// Whether the program is still running.
    public var isRunning: Bool { status == nil }

    /// Sends it a signal, unless it has ended, because another process may have its id then.
    public func signal(_ number: Int32) {
        state.withLock { state in
            if state.status == nil { _ = kill(processIdentifier, number) }
        }
    }

    /// Waits for its end.
    ///
    /// - Returns: Its status.
    @discardableResult
    public func end() async -> Int32 {
        await withCheckedContinuation { continuation in
            let status = state.withLock { state in
                if state.status == nil { state.waiting.append(continuation) }
                return state.status
            }
            if let status { continuation.resume(returning: status) }
        }
    }

    private func wait() {
        var information = siginfo_t()
        // It stays a zombie here, so that no other process gets its id until the status is known.
        while waitid(P_PID, id_t(processIdentifier), &information, WEXITED | WNOWAIT) != 0 && errno == EINTR {}
        let (status, waiting) = state.withLock { state in
            var code: Int32 = 0
            while waitpid(processIdentifier, &code, 0) < 0 && errno == EINTR {}
            let status = code & 0x7f == 0 ? (code >> 8) & 0xff : 128 + (code & 0x7f)
            state.status = status
            defer { state.waiting = [] }
            return (status, state.waiting)
        }
        for continuation in waiting { continuation.resume(returning: status) }
    }

    /// Calls `body` with the texts as a C array of C strings that ends with NULL.
    private static func withCStrings<Value>(
        _ texts: [String],
        _ body: ([UnsafeMutablePointer<CChar>?]) -> Value
    ) -> Value {
        let copies = texts.map { strdup($0) }
        defer { for copy in copies { free(copy) } }
        return body(copies + [nil])
    }
}

extension Child.Stream {
    fileprivate func add(as number: Int32, to actions: inout posix_spawn_file_actions_t) {
        let flags = number == 0 ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC
        switch self {
        case .inherited: break
        case .null: posix_spawn_file_actions_addopen(&actions, number, "/dev/null", O_RDWR, 0)
        case .file(let path): posix_spawn_file_actions_addopen(&actions, number, path, flags, 0o600)
        case .descriptor(let descriptor): posix_spawn_file_actions_adddup2(&actions, descriptor, number)
        }
    }
}
