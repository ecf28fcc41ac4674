import Breakwater
import BreakwaterProcess
import Glibc
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
            logger: logger
        )
        switch await ProgramLoop.run(program) {
        case .ended(let ending):
            await StrayProcessReaper.shared.killProcesses(
                of: StrayProcessReaper.Run(mark: mark, program: ending.process, start: ending.start)
            )
            if ending.wasStopped { throw CancellationError() }
            return .ended(ending)
        case .notStarted(let number): return outcome(of: number)
        case .cancelled: throw CancellationError()
        }
    }

    /// The outcome when the program did not run, for the reason with this error number.
    private func outcome(of number: Int32) -> Outcome {
        if let failure = JobFailure(limit: number, while: "starting the program \(executable)") {
            return .unable(failure)
        }
        let reason = String(cString: strerror(number))
        if let workingDirectory, access(workingDirectory, X_OK) != 0 {
            return .unable(
                JobFailure(
                    "exec.workingDirectory",
                    "this worker cannot enter the directory \(workingDirectory): \(String(cString: strerror(errno)))"
                )
            )
        }
        guard [ENOENT, ENOTDIR, EACCES].contains(number) else {
            return .notStarted(JobFailure("exec.spawn", "the program \(executable) could not be run: \(reason)"))
        }
        return .unable(
            JobFailure(
                "exec.notFound",
                "the program \(executable) could not be run: is it, or its interpreter, gone from this worker?"
            )
        )
    }
}
