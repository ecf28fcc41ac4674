import Breakwater
import BreakwaterProcess
import FoundationEssentials
import Glibc
import Logging

extension ExecPlugin {
    /// The exit status for a dependency that limits the rate of calls. It is the first number after those of
    /// `sysexits.h`.
    static let throttledStatus: Int32 = 79
    /// The exit status for a job that is to run again later, although nothing failed.
    static let snoozedStatus: Int32 = 80
    /// The longest `retry_after`: ten years, as in other plugins. A longer one is reduced to this.
    static let longestRetryAfter = SettingLimits.longest

    /// The outcome of a job whose program has ended.
    func outcome(of ending: ProgramRun.Ending, logger: Logger) -> JobOutcome {
        switch ending.status {
        case .exited(EX_OK):
            if ending.output.isCut {
                logger.resultWasCut(kept: maxOutputBytes, of: ending.output.written)
            }
            return .succeeded(result: JobResult.json(from: ending.output.kept, isCut: ending.output.isCut))
        case .exited(let status):
            let failure = JobFailure("exit.\(status)", message("exited with status \(status)", ending))
            let retryAfter = Self.retryAfter(in: ending.output)
            switch status {
            case EX_DATAERR: return .discarded(failure)
            case EX_UNAVAILABLE: return .unavailable(failure, retryAfter: retryAfter)
            case Self.throttledStatus: return .throttled(failure, retryAfter: retryAfter ?? .zero)
            case Self.snoozedStatus: return Self.snoozed(for: retryAfter, otherwise: failure)
            default: return .failed(failure)
            }
        case .signaled(let signal):
            let name = strsignal(signal).map { " (\(String(cString: $0)))" } ?? ""
            return .failed(JobFailure("signal.\(signal)", message("was ended by signal \(signal)\(name)", ending)))
        }
    }

    /// The outcome of a program that asked for a snooze. Without a time the job fails: it would otherwise run again at
    /// once and forever, because a snooze spends no attempt.
    private static func snoozed(for delay: Duration?, otherwise failure: JobFailure) -> JobOutcome {
        if let delay { return .snoozed(delay) }
        let advice = "it must write {\"retry_after\": seconds} to standard output, with more than 0 seconds"
        return .failed(JobFailure(failure.name, "\(failure.message)\n(to snooze the job, \(advice))"))
    }

    /// The JSON object on standard output that says when the job runs again. Other members are ignored.
    private struct Answer: Decodable {
        /// Fractions are allowed.
        var seconds: Double

        private enum CodingKeys: String, CodingKey {
            case seconds = "retry_after"
        }
    }

    /// The delay that the program asked for; nil if its output is not a JSON object with a positive `retry_after`.
    private static func retryAfter(in output: BoundedOutput) -> Duration? {
        guard !output.isCut, let answer = try? JSONDecoder().decode(Answer.self, from: Data(output.kept)),
            answer.seconds > 0
        else { return nil }
        return .seconds(min(answer.seconds, longestRetryAfter.inSeconds))
    }

    private func message(_ end: String, _ ending: ProgramRun.Ending) -> String {
        let tail = ending.errorTail
        return "\(program.command[0]) \(end)" + (tail.isEmpty ? " and wrote nothing to standard error" : ": \(tail)")
    }
}
