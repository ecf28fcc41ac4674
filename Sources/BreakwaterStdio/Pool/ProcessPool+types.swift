import Breakwater
import Glibc

extension ProcessPool {
    /// The number of a place for a process. It is reused only after the process's exit was handled.
    typealias Place = Int

    /// One process.
    struct Process {
        enum Phase: Equatable {
            /// It was started, and has not said hello. → ready, ending
            case starting(until: Instant)
            /// It takes jobs. → draining, ending
            case ready
            /// It gets no more jobs. `killAt` is set when its runs have ended and it was told to exit. → ending
            case draining(killAt: Instant?)
            /// It was sent SIGTERM, and gets SIGKILL at `killAt`; nil when it was sent that too.
            case ending(Cause, killAt: Instant?)
        }

        /// The reason why the pool ends a process.
        struct Cause: Equatable {
            var failure: JobFailure
            /// Whether the failure is that of its running jobs. Else they are released.
            var blamesJobs: Bool
        }

        var phase: Phase
        let startedAt: Instant
        /// When it last wrote a message, and when it last got a job while it had none.
        var heardAt: Instant
        var busySince: Instant
        /// What its hello said.
        var hello: ProcessMessage.Hello?
        /// How many jobs it runs at once. It starts them in the order in which it gets them, so these are the first of
        /// its runs; the others wait inside it.
        var jobsAtOnce = 1
        /// Its unanswered runs in the order in which they were sent.
        var runs: [UInt64] = []
        /// Which of them are cancelled.
        var cancelled = 0
        /// How many runs it has answered.
        var answered = 0
        /// Whether a new process is to replace it.
        var isDue = false
        /// When its standard output was closed, if it was.
        var closedAt: Instant?
        /// How many more messages other than results it may write, at `allowanceAt`.
        var allowance = ProcessPool.messageBurst
        var allowanceAt: Instant

        var isReady: Bool { phase == .ready }
        var isStarting: Bool { if case .starting = phase { true } else { false } }
    }

    /// One job in the pool.
    struct Run {
        /// The process that it was sent to; nil while it waits for one.
        var place: Place?
        /// The message, which can be sent again if the process ends before it started the job.
        var line: [UInt8]
        var isCancelled = false
        /// When its process is ended because it goes on with the cancelled run.
        var killAt: Instant?
    }

    /// How a run ended.
    enum Ending: Sendable, Equatable {
        case outcome(JobOutcome)
        /// The run was cancelled, and did not end with an outcome.
        case cancelled
    }

    enum Action: Equatable {
        /// Start a process. Its start, failure or exit is then reported.
        case start(Place)
        case write(Place, [UInt8])
        /// Close its standard input, after everything else is written.
        case closeInput(Place)
        /// Signal its process group.
        case signal(Place, Int32)
        case finish(UInt64, Ending)
        case progress(UInt64, fraction: Double?, note: String?)
        case checkpoint(UInt64, String)
        case warn(String)
        case info(String)
        /// No process is left after ``ProcessPool/stop(at:)``.
        case stopped
    }
}
