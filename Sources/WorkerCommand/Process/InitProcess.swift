import Foundation
import Synchronization

/// What process 1 of a container has to do. When a program ends, its children become children of process 1; when they
/// end, they stay zombies until process 1 waits for them.
///
/// `worker` waits for the children that it has started, and for no others. So as process 1 it starts itself once more,
/// and does nothing but wait for whatever ends, and pass signals on.
enum InitProcess {
    /// Ends the process with the status of the command that it has started; returns at once if this is not process 1,
    /// or if the command cannot be started from here.
    static func serveIfFirst() {
        guard getpid() == 1 else { return }
        passSignalsOn()
        var process: pid_t = 0
        guard posix_spawn(&process, "/proc/self/exe", nil, nil, CommandLine.unsafeArgv, environ) == 0 else { return }
        command.store(process, ordering: .sequentiallyConsistent)
        // This process has the same arguments and the same environment as the command, for as long.
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

    /// The command's number; 0 as long as there is none.
    private static let command = Atomic<pid_t>(0)
    /// A signal that came before there was a command; 0 for none.
    private static let earlySignal = Atomic<Int32>(0)

    private static func passSignalsOn() {
        // Touched before the handler is installed, for a handler must not initialise them.
        command.store(0, ordering: .sequentiallyConsistent)
        earlySignal.store(0, ordering: .sequentiallyConsistent)
        var action = sigaction()
        action.sa_flags = Int32(SA_SIGINFO | SA_RESTART)
        action.__sigaction_handler.sa_sigaction = { signal, information, _ in
            // What the kernel sends, as for Ctrl-C, it sends to the command as well.
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
