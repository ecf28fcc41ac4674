import Breakwater
import BreakwaterProcess
import Logging

/// One run of a program. It writes the program's input, reads its output, and ends it together with the processes that
/// it started.
struct ChildProcess: Sendable {
    var executable: String
    var command: [String]
    var environment: [String: String]
    /// The mark in the environment of all its processes.
    let mark = RunMark()
    var workingDirectory: String?
    var input: [UInt8]
    var maxOutputBytes: Int
    var killAfter: Duration
    var logger: Logger
    var reports: RunReports?

    enum Outcome: Sendable {
        case ended(ProgramRun.Ending)
        /// The program did not run.
        case notStarted(JobFailure)
        /// The program did not run because this worker lacks something.
        case unable(JobFailure)
    }

    /// Runs the program to its end.
    ///
    /// - Throws: `CancellationError` when the caller was cancelled and the program was asked to end.
    func run() async throws -> Outcome {
        let program = ProgramRun.Program(
            executable: executable,
            words: command,
            environment: environment.map { "\($0)=\($1)" } + ["\(RunMark.variable)=\(mark.text)"],
            workingDirectory: workingDirectory,
            input: input,
            maxOutputBytes: maxOutputBytes,
            killAfter: killAfter,
            logger: logger,
            reports: reports
        )
        switch await ProgramLoop.run(program) {
        case .ended(let ending):
            await StrayProcessReaper.shared.killProcesses(
                of: StrayProcessReaper.Run(mark: mark, program: ending.process, start: ending.start)
            )
            if ending.wasStopped { throw CancellationError() }
            return .ended(ending)
        case .notStarted(let number):
            let failure = StartFailure(number, of: executable, in: workingDirectory)
            return failure.isOfWorker ? .unable(failure.failure) : .notStarted(failure.failure)
        case .cancelled: throw CancellationError()
        }
    }
}
