import Foundation
import Synchronization

/// The duties of process 1 of a container. When a program ends, its children become children of process 1. When these
/// end, they stay zombies until process 1 waits for them.
///
/// `worker` waits only for the children that it has started. As process 1 it therefore starts itself again as a child,
/// and then only waits for children and forwards signals.
enum InitProcess {
    /// Starts the command, waits for it, and exits with its status. Returns at once if this is not process 1, or if the
    /// command cannot be started.
    static func serveIfFirst() {
        guard getpid() == 1 else { return }
        passSignalsOn()
        var process: pid_t = 0
        guard posix_spawn(&process, "/proc/self/exe", nil, nil, CommandLine.unsafeArgv, environ) == 0 else { return }
        command.store(process, ordering: .sequentiallyConsistent)
        // This process has the same arguments and environment as the command, and keeps them as long.
        ProcessTitle.maskPasswords()
        ProcessMemory.refuseDumps(environment: ProcessInfo.processInfo.environment)
        let early = earlySignal.load(ordering: .sequentiallyConsistent)
        if early != 0 { kill(process, early) }
        while true {
            var status: Int32 = 0
            guard waitpid(-1, &status, 0) == process else { continue }
            exit(status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f))
        }
    }

    /// The command's process id; 0 until it is started.
    private static let command = Atomic<pid_t>(0)
    /// A signal that was received before the command was started; 0 for none.
    private static let earlySignal = Atomic<Int32>(0)

    private static func passSignalsOn() {
        // These statics are initialised before the handler is installed, because a signal handler must not initialise
        // them.
        command.store(0, ordering: .sequentiallyConsistent)
        earlySignal.store(0, ordering: .sequentiallyConsistent)
        var action = sigaction()
        action.sa_flags = Int32(SA_SIGINFO | SA_RESTART)
        action.__sigaction_handler.sa_sigaction = { signal, information, _ in
            // A signal from the kernel, as for Ctrl-C, is also sent to the command itself, so it is not forwarded.
            guard let information, information.pointee.si_code <= 0 else { return }
            let command = InitProcess.command.load(ordering: .sequentiallyConsistent)
            if command == 0 {
                InitProcess.earlySignal.store(signal, ordering: .sequentiallyConsistent)
            } else {
                kill(command, signal)
            }
        }
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2] { sigaction(signal, &action, nil) }
    }
}
