import Breakwater
import BreakwaterTesting
import Logging

/// A plugin that does what the kind of a job says, and conforms. Tests change one of its parts, so that it does not.
struct ScriptedPlugin: HandlerPlugin {
    typealias Run = @Sendable (Job, JobContext) async throws -> JobOutcome

    /// Runs the jobs of some kinds instead.
    var runs: [String: Run] = [:]
    var capacity: Int?
    var onStart: @Sendable () async -> Void = {}
    var onStop: @Sendable () async -> Void = {}

    func start(logger: Logger) async { await onStart() }

    func stop() async { await onStop() }

    func run(_ job: Job, context: JobContext) async throws -> JobOutcome {
        if let run = runs[job.kind] { return try await run(job, context) }
        switch job.kind {
        case "echo": return .succeeded(result: job.payload)
        case "list": return .succeeded(result: #"{"a": [1, true, null]}"#)
        case "fail": return .failed(JobFailure("it.broke", "it is broken"))
        case "throw": throw JobFailure("it.broke", "it is broken")
        case "error": throw Trouble()
        case "discard": return .discarded(JobFailure("bad", "it is bad"))
        case "unavailable": return .unavailable(JobFailure("down", "it is down"), retryAfter: .seconds(30))
        case "throttle": return .throttled(JobFailure("rate", "too many"), retryAfter: .seconds(7.5))
        case "unable": return .unable(JobFailure("key", "there is no key"))
        case "snooze": return .snoozed(.seconds(60))
        case "release": return .released
        case "long": return .succeeded(result: "\"" + String(repeating: "x", count: 1000) + "\"")
        case "log":
            context.logger.info("a line of the job")
            return .succeeded()
        case "report":
            context.report(fraction: 0.5, note: "half")
            try context.saveCheckpoint(["page": 3])
            return .succeeded()
        case "wait": try await untilCancelled()
        case "describe": return .succeeded(result: Self.description(of: job, context))
        default: return .succeeded()
        }
    }

    struct Trouble: Error {}

    static func description(of job: Job, _ context: JobContext, without missing: String = "") -> String {
        let members = context.fields(of: job).filter { $0.field.rawValue != missing }.map { field, text in
            "\"\(field.rawValue)\":\(field == .checkpoint ? text : JobResult.quoted(text))"
        }
        return "{\(members.joined(separator: ","))}"
    }

    /// All that it can do.
    static let scenarios: [PluginConformance.Scenario] = [
        .succeeds(Job(kind: "list"), result: #"{"a":[1,true,null]}"#),
        .succeeds(Job(kind: "nothing")),
        .fails(Job(kind: "fail"), name: "it.broke"),
        .fails(Job(kind: "throw"), name: "it.broke"),
        .fails(Job(kind: "error"), name: "Trouble"),
        .discards(Job(kind: "discard"), name: "bad"),
        .unavailable(Job(kind: "unavailable"), name: "down", retryAfter: .seconds(30)),
        .throttled(Job(kind: "throttle"), name: "rate", retryAfter: .seconds(7.5)),
        .unable(Job(kind: "unable"), name: "key"),
        .snoozes(Job(kind: "snooze"), for: .seconds(60)),
        .releases(Job(kind: "release")),
        .answers(Job(kind: "anything")),
        .givesTooMuch(Job(kind: "long"), keeping: 1000),
        .logs(Job(kind: "log"), "a line of the job"),
        .reports(Job(kind: "report"), fraction: 0.5, note: "half", checkpoint: #"{"page": 3}"#),
        .waits(Job(kind: "wait")),
        .describesJob(Job(kind: "describe")),
        .echoes(Job(kind: "echo")),
    ]
}
