import Glibc
import Synchronization

/// Ends the programs of a worker that was killed before it could end them itself.
///
/// A shell in a session of its own reads from a pipe which process groups there are. This process alone holds the
/// pipe's other end, so when it is gone, however it went, the shell reads the end of the pipe and kills the groups that
/// were left. Then it kills whatever else carries the worker's mark (see ``RunMark``): programs that were not yet
/// reported to it, and processes that moved to sessions of their own. No program slips through in between: each also
/// holds the pipe's other end until it has its own environment. (The kernel's own means, PR_SET_PDEATHSIG, would be
/// tied to one thread and reach only the program itself, not what it started; and nothing can run between fork and exec
/// here.)
///
/// Without a `/bin/sh` there is no guard, and such programs run to their end.
final class ProcessGroupWatchdog: Sendable {
    /// This process's guard, started with its first program.
    static let shared = ProcessGroupWatchdog()

    /// The pipe's writing end; negative when there is no guard. Also orders the messages.
    private let pipeEnd: Mutex<CInt>

    /// Starts a guard. One serves a whole process; others are for tests.
    ///
    /// - Parameter worker: The beginning of the marks of the programs that it kills.
    init(worker: String = RunMark.worker) {
        pipeEnd = Mutex(Self.start(worker: worker))
    }

    /// Makes the guard act as if the process had died.
    deinit {
        pipeEnd.withLock { if $0 >= 0 { close($0) } }
    }

    /// The group is to be killed if this process dies from now on.
    func watch(_ group: pid_t) { send("+ \(group)\n") }

    /// The group is gone. Say so before its leader is reaped: later, its number may be another's.
    func forget(_ group: pid_t) { send("- \(group)\n") }

    private func send(_ message: String) {
        pipeEnd.withLock { end in
            guard end >= 0 else { return }
            var message = message
            // At most PIPE_BUF bytes: written whole or not at all.
            let written = message.withUTF8 { bytes in
                var written = -1
                repeat { written = write(end, bytes.baseAddress, bytes.count) } while written < 0 && errno == EINTR
                return written
            }
            // The guard was killed. Without it, programs are as they would be without a shell.
            if written < 0 {
                close(end)
                end = -1
            }
        }
    }

    private static let script = """
        trap '' HUP INT TERM
        groups=' '
        while read -r sign group; do
            case $sign in
                +) groups="$groups$group " ;;
                -) groups="${groups%% $group *} ${groups#* $group }" ;;
            esac
        done
        for group in $groups; do kill -s KILL -- "-$group"; done
        for round in 1 2 3; do
            for file in /proc/[0-9]*/environ; do
                if grep -qzs "^$1\\." "$file"; then
                    process=${file#/proc/}
                    kill -s KILL "${process%/environ}"
                fi
            done
        done
        """

    /// `POSIX_SPAWN_SETSID` of glibc and musl, which their headers show under `_GNU_SOURCE` alone.
    private static let setSession: Int16 = 0x80

    /// Starts the shell. Returns the pipe's writing end, or -1.
    private static func start(worker: String) -> CInt {
        var ends: [CInt] = [-1, -1]
        guard pipe(&ends) == 0 else { return -1 }
        defer { close(ends[0]) }
        // No program may hold the end whose closing reports this process's death.
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO)
        // A reader of this process's output must not wait for the guard's end.
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // Signals from a terminal go to its whole session.
        posix_spawnattr_setflags(&attributes, setSession)

        let words = ["sh", "-c", script, "breakwater-guard", "\(RunMark.variable)=\(worker)"]
        let arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        let noEnvironment: [UnsafeMutablePointer<CChar>?] = [nil]
        var guardID: pid_t = 0
        guard posix_spawn(&guardID, "/bin/sh", &actions, &attributes, arguments, noEnvironment) == 0 else {
            close(ends[1])
            return -1
        }
        return ends[1]
    }
}
