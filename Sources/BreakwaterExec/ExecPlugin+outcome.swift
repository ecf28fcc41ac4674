import Breakwater
import Glibc
import Logging
import Subprocess

extension ExecPlugin {
    /// What the end of the program means for its job.
    func outcome(of ending: ChildProcess.Ending, logger: Logger) -> JobOutcome {
        switch ending.status {
        case .exited(EX_OK):
            if ending.output.isCut {
                logger.warning(
                    "The result was cut: the program wrote more than is kept",
                    metadata: [
                        "kept_bytes": .stringConvertible(maxOutputBytes),
                        "written_bytes": .stringConvertible(ending.output.written),
                    ]
                )
            }
            return .succeeded(result: JobResult.json(from: ending.output.kept, isCut: ending.output.isCut))
        case .exited(let status):
            let failure = JobFailure("exit.\(status)", message("exited with status \(status)", ending))
            switch status {
            case EX_DATAERR: return .discarded(failure)
            case EX_UNAVAILABLE: return .unavailable(failure)
            default: return .failed(failure)
            }
        case .signaled(let signal):
            let name = strsignal(signal).map { " (\(String(cString: $0)))" } ?? ""
            return .failed(JobFailure("signal.\(signal)", message("was ended by signal \(signal)\(name)", ending)))
        }
    }

    private func message(_ end: String, _ ending: ChildProcess.Ending) -> String {
        let tail = ending.errorTail
        return "\(command[0]) \(end)" + (tail.isEmpty ? " and wrote nothing to standard error" : ": \(tail)")
    }
}
