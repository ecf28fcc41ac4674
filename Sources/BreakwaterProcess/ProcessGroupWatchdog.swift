import CProcess
import Glibc
import Synchronization

/// Kills the programs of a worker that was itself killed before it could end them.
///
/// A shell in its own session reads from a pipe which process groups exist. Only this process holds the pipe's writing
/// end. When this process ends in any way, the shell reads the end of the pipe and kills the remaining groups. Then it
/// kills all other processes that carry the worker's mark (see ``RunMark``): programs that were not yet reported to it,
/// and processes that moved to their own sessions. No program is missed in between, because each also holds the pipe's
/// writing end until it has its own environment. (The kernel's own means, PR_SET_PDEATHSIG, depends on one thread and
/// reaches only the program itself, not the processes that it started. It would also need code that runs between fork
/// and exec, which is impossible here.)
///
/// Without a `/bin/sh` there is no watchdog, and such programs run to their end.
package final class ProcessGroupWatchdog: Sendable {
    /// This process's watchdog, which is started with the first program.
    package static let shared = ProcessGroupWatchdog()

    /// The pipe's writing end; negative when there is no watchdog. The lock also orders the messages.
    private let pipeEnd: Mutex<CInt>

    /// Starts a watchdog. A process needs only one; others are for tests.
    ///
    /// - Parameter worker: The prefix of the marks of the programs that it kills.
    package init(worker: String = RunMark.worker) {
        pipeEnd = Mutex(Self.start(worker: worker))
    }

    /// Makes the watchdog act as if the process had died.
    deinit {
        pipeEnd.withLock { if $0 >= 0 { close($0) } }
    }

    /// From now on the watchdog kills this group if this process dies.
    package func watch(_ group: Int32) { send("+ \(group)\n") }

    /// Makes the watchdog forget a group that has ended. Call this before the group's leader is reaped, because the
    /// number may be reused afterwards.
    package func forget(_ group: Int32) { send("- \(group)\n") }

    private func send(_ message: String) {
        pipeEnd.withLock { end in
            guard end >= 0 else { return }
            var message = message
            // The message has at most PIPE_BUF bytes, so it is written completely or not at all.
            let written = message.withUTF8 { bytes in
                var written = -1
                repeat { written = write(end, bytes.baseAddress, bytes.count) } while written < 0 && errno == EINTR
                return written
            }
            // The watchdog was killed. Programs now run without one, as on a machine without a shell.
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

    /// `POSIX_SPAWN_SETSID` of glibc and musl, which their headers define only with `_GNU_SOURCE`.
    private static let setSession: Int16 = 0x80

    /// Starts the shell. Returns the pipe's writing end, or -1.
    private static func start(worker: String) -> CInt {
        var ends: [CInt] = [-1, -1]
        guard pipe(&ends) == 0 else { return -1 }
        defer { close(ends[0]) }
        // No program may inherit the writing end, because the watchdog learns of this process's death when it is
        // closed.
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO)
        // The watchdog must not keep this process's output open, because a reader of it would wait until the watchdog
        // ends.
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0)
        // Otherwise it would hold for the life of this process what is open now: files, sockets, and programs that are
        // being written, which nobody could run then.
        _ = breakwater_close_from(&actions, STDERR_FILENO + 1)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // The watchdog has its own session, because signals from a terminal reach the terminal's whole session.
        posix_spawnattr_setflags(&attributes, setSession)

        let words = ["sh", "-c", script, "breakwater-watchdog", "\(RunMark.variable)=\(worker)"]
        let arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        let noEnvironment: [UnsafeMutablePointer<CChar>?] = [nil]
        var watchdogID: pid_t = 0
        guard posix_spawn(&watchdogID, "/bin/sh", &actions, &attributes, arguments, noEnvironment) == 0 else {
            close(ends[1])
            return -1
        }
        return ends[1]
    }
}
