import Breakwater
import Foundation

/// Does what a job's payload says, and records the run's start and end.
struct ChaosPlugin: HandlerPlugin {
    let notes: Notes
    let worker: String
    /// While this file exists, the dependency of `chaos.call` is down. Files with the suffix `-dead` or `-brief` do the
    /// same for those hosts.
    let outage: String

    struct Payload: Decodable {
        /// The job's number in the history.
        var n: Int
        /// The action: work, fail, discard, snooze, hang, deaf, call, dead, brief, abort, overflow or eat.
        var what: String
        /// How long the action takes, in milliseconds.
        var ms: Int
        /// How many attempts fail, for `fail`.
        var times: Int?
    }

    func run(_ job: Job, context: JobContext) async throws -> JobOutcome {
        let payload = try JSONDecoder().decode(Payload.self, from: Data(job.payload.utf8))
        let run: [String: any NoteValue] = [
            "n": payload.n, "job": job.id, "attempt": job.attempt, "lease": job.lease, "worker": worker,
            "pid": Int(getpid()), "probe": job.isProbe ? 1 : 0,
        ]
        notes.write("start", run)
        let (how, outcome) = await outcome(of: payload, job: job)
        notes.write("end", run.merging(["how": how]) { $1 })
        return outcome
    }

    private func outcome(of payload: Payload, job: Job) async -> (String, JobOutcome) {
        let time = Duration.milliseconds(payload.ms)
        switch payload.what {
        case "abort":
            abort()
        case "overflow":
            return ("\(Self.depth(below: payload.n))", .released)
        case "eat":
            Self.eatMemory()
        case "deaf":
            // This ignores cancellation.
            await Task { try? await Task.sleep(for: time) }.value
        case "hang":
            try? await Task.sleep(for: .seconds(3600))
        default:
            try? await Task.sleep(for: time)
        }
        if Task.isCancelled { return ("cancelled", .released) }
        switch payload.what {
        case "fail" where job.attempt <= payload.times ?? 0:
            return ("failed", .failed(JobFailure("chaos.failed", "attempt \(job.attempt) fails")))
        case "discard":
            return ("discarded", .discarded(JobFailure("chaos.discarded", "it can never work")))
        case "snooze" where job.lease % 3 != 0:
            return ("snoozed", .snoozed(.milliseconds(300)))
        case "call" where access(outage, F_OK) == 0:
            return ("unavailable", .unavailable(JobFailure("chaos.down", "the dependency is down")))
        case "dead" where access("\(outage)-dead", F_OK) == 0, "brief" where access("\(outage)-brief", F_OK) == 0:
            return ("unavailable", .unavailable(JobFailure("chaos.down", "the host is down")))
        default:
            return ("succeeded", .succeeded(result: "\(payload.n)"))
        }
    }

    /// Overflows the stack by endless recursion. Each call keeps its values in its frame.
    private static func depth(below number: Int) -> Int {
        guard number > 0 else { return 0 }
        var frame = (number, number, number, number)
        return withUnsafeMutableBytes(of: &frame) { bytes in
            bytes[0] |= 1
            return depth(below: bytes.loadUnaligned(as: Int.self)) + Int(bytes[8])
        }
    }

    /// Limits the memory of this process, and then allocates more.
    private static func eatMemory() -> Never {
        var limit = rlimit(rlim_cur: 1 << 20, rlim_max: 1 << 20)
        setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
        var eaten: [[UInt8]] = []
        while true { eaten.append([UInt8](repeating: 1, count: 1 << 20)) }
    }
}
