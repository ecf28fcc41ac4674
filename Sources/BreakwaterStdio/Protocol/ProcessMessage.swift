import Breakwater
import BreakwaterProcess

/// A line that a process writes to its standard output.
enum ProcessMessage: Sendable, Equatable {
    /// The first line: what the process can do.
    case hello(Hello)
    /// The end of a run.
    case result(run: UInt64, JobOutcome)
    case progress(run: UInt64, fraction: Double?, note: String?)
    /// A state from which a later attempt can go on, as JSON text.
    case checkpoint(run: UInt64, String)
    /// The process is alive.
    case heartbeat
    /// The process wants no more jobs. It ends when its runs have ended.
    case drain

    struct Hello: Sendable, Equatable {
        /// How many jobs the process runs at once.
        var jobs: Int
        /// Whether it ends a run that the worker cancels.
        var cancels = false
        /// Whether it writes at least the heartbeats that it was asked for while it has a job.
        var sendsHeartbeats = false
        /// The name and version of its library, for the log.
        var library: String?
    }
}

/// The way in which a process broke the protocol, as the end of a sentence.
struct ProtocolFault: Error, Equatable {
    var message: String

    init(_ message: String) { self.message = message }
}

extension ProcessMessage {
    /// The longest name of a failure, in bytes.
    static let maximumNameBytes = 200
    /// The longest time that a process can ask for.
    private static let longestDelay = Duration.seconds(86_400 * 3650)

    /// The members of a line that have a meaning. Others are ignored.
    private struct Members {
        var type, run, outcome, result, error, retryAfter, fraction, note, checkpoint, version, jobs, can,
            library: Range<Int>?
    }

    /// Reads one line without its line feed.
    init(_ line: UnsafeRawBufferPointer) throws(ProtocolFault) {
        var members = Members()
        var scanner = MessageScanner(line)
        let isObject = scanner.members { name, value in
            if line.isWord("type", name) {
                members.type = value
            } else if line.isWord("run", name) {
                members.run = value
            } else if line.isWord("outcome", name) {
                members.outcome = value
            } else if line.isWord("result", name) {
                members.result = value
            } else if line.isWord("error", name) {
                members.error = value
            } else if line.isWord("retry_after", name) {
                members.retryAfter = value
            } else if line.isWord("fraction", name) {
                members.fraction = value
            } else if line.isWord("note", name) {
                members.note = value
            } else if line.isWord("checkpoint", name) {
                members.checkpoint = value
            } else if line.isWord("protocol", name) {
                members.version = value
            } else if line.isWord("jobs", name) {
                members.jobs = value
            } else if line.isWord("can", name) {
                members.can = value
            } else if line.isWord("library", name) {
                members.library = value
            }
        }
        guard isObject else {
            throw ProtocolFault("a line of its standard output is not a JSON object: \(line.excerpt)")
        }
        guard let type = members.type else { throw ProtocolFault("a line has no \"type\": \(line.excerpt)") }
        if line.isWord(#""result""#, type) {
            self = .result(run: try Self.run(members.run, in: line), try Self.outcome(members, in: line))
        } else if line.isWord(#""progress""#, type) {
            self = try Self.progress(members, in: line)
        } else if line.isWord(#""checkpoint""#, type) {
            guard let checkpoint = members.checkpoint else {
                throw ProtocolFault("a checkpoint has no \"checkpoint\": \(line.excerpt)")
            }
            let json = JobResult.json(from: Array(line[checkpoint])) ?? "null"
            self = .checkpoint(run: try Self.run(members.run, in: line), json)
        } else if line.isWord(#""heartbeat""#, type) {
            self = .heartbeat
        } else if line.isWord(#""drain""#, type) {
            self = .drain
        } else if line.isWord(#""hello""#, type) {
            self = .hello(try Self.hello(members, in: line))
        } else {
            throw ProtocolFault("a line has an unknown \"type\": \(line.excerpt)")
        }
    }

    private static func run(_ range: Range<Int>?, in line: UnsafeRawBufferPointer) throws(ProtocolFault) -> UInt64 {
        guard let range else { throw ProtocolFault("a line has no \"run\": \(line.excerpt)") }
        guard let run = line.whole(range) else {
            throw ProtocolFault("a line's \"run\" is not the number of a run: \(line.excerpt)")
        }
        return run
    }

    private static func hello(_ members: Members, in line: UnsafeRawBufferPointer) throws(ProtocolFault) -> Hello {
        guard let version = members.version, line.whole(version) == UInt64(WorkerMessage.version) else {
            throw ProtocolFault(
                "its hello is not for version \(WorkerMessage.version) of the protocol, which this worker speaks: "
                    + line.excerpt
            )
        }
        var hello = Hello(jobs: 1)
        if let jobs = members.jobs {
            guard let count = line.whole(jobs), (1...UInt64(StdioSettings.jobsRange.upperBound)).contains(count) else {
                let most = StdioSettings.jobsRange.upperBound
                throw ProtocolFault("its hello has \"jobs\" that are not from 1 to \(most): \(line.excerpt)")
            }
            hello.jobs = Int(count)
        }
        if let can = members.can {
            var scanner = MessageScanner(line, in: can)
            let isList = scanner.elements { element in
                if line.isWord(#""cancel""#, element) { hello.cancels = true }
                if line.isWord(#""heartbeat""#, element) { hello.sendsHeartbeats = true }
            }
            guard isList else { throw ProtocolFault("its hello has a \"can\" that is not a list: \(line.excerpt)") }
        }
        hello.library = members.library.flatMap { line.text($0) }.map { String($0.prefix(maximumNameBytes)) }
        return hello
    }

    private static func progress(
        _ members: Members,
        in line: UnsafeRawBufferPointer
    ) throws(ProtocolFault) -> ProcessMessage {
        let run = try run(members.run, in: line)
        var fraction: Double?
        if let range = members.fraction, !line.isNull(range) {
            fraction = line.number(range)
            guard let fraction, (0...1).contains(fraction) else {
                throw ProtocolFault("a progress has a \"fraction\" that is not from 0 to 1: \(line.excerpt)")
            }
        }
        var note: String?
        if let range = members.note, !line.isNull(range) {
            guard let text = line.text(range) else {
                throw ProtocolFault("a progress has a \"note\" that is not a text: \(line.excerpt)")
            }
            note = text
        }
        return .progress(run: run, fraction: fraction, note: note)
    }

    private static func outcome(
        _ members: Members,
        in line: UnsafeRawBufferPointer
    ) throws(ProtocolFault) -> JobOutcome {
        guard let word = members.outcome else { throw ProtocolFault("a result has no \"outcome\": \(line.excerpt)") }
        if line.isWord(#""succeeded""#, word) {
            guard let result = members.result, !line.isNull(result) else { return .succeeded() }
            return .succeeded(result: JobResult.json(from: Array(line[result])))
        }
        let delay = try delay(members.retryAfter, in: line)
        if line.isWord(#""snoozed""#, word) {
            guard let delay, delay > .zero else {
                throw ProtocolFault("a result is snoozed without a \"retry_after\" above 0: \(line.excerpt)")
            }
            return .snoozed(delay)
        }
        if line.isWord(#""released""#, word) { return .released }
        let text = line.text(word) ?? ""
        guard ["failed", "unavailable", "throttled", "discarded", "unable"].contains(text) else {
            throw ProtocolFault("a result has an unknown \"outcome\": \(line.excerpt)")
        }
        let failure = try failure(members.error, in: line)
        guard delay == nil || text == "unavailable" || text == "throttled" else {
            throw ProtocolFault(
                "a result that is \(text) has a \"retry_after\", "
                    + "which only unavailable, throttled and snoozed ones have: \(line.excerpt)"
            )
        }
        return switch text {
        case "unavailable": .unavailable(failure, retryAfter: delay)
        case "throttled": .throttled(failure, retryAfter: delay ?? .zero)
        case "discarded": .discarded(failure)
        case "unable": .unable(failure)
        default: .failed(failure)
        }
    }

    private static func delay(
        _ range: Range<Int>?,
        in line: UnsafeRawBufferPointer
    ) throws(ProtocolFault) -> Duration? {
        guard let range, !line.isNull(range) else { return nil }
        guard let seconds = line.number(range), seconds >= 0 else {
            throw ProtocolFault("a result has a \"retry_after\" that is not a number of seconds: \(line.excerpt)")
        }
        return seconds < longestDelay / .seconds(1) ? .seconds(seconds) : longestDelay
    }

    private static func failure(
        _ range: Range<Int>?,
        in line: UnsafeRawBufferPointer
    ) throws(ProtocolFault) -> JobFailure {
        var name: String?
        var message: String? = ""
        var isObject = false
        if let range {
            var scanner = MessageScanner(line, in: range)
            isObject = scanner.members { key, value in
                if line.isWord("name", key) { name = line.text(value) }
                if line.isWord("message", key) { message = line.isNull(value) ? "" : line.text(value) }
            }
        }
        guard isObject, let name, !name.isEmpty, name.utf8.count <= maximumNameBytes, let message else {
            throw ProtocolFault(
                "a result that did not succeed needs an \"error\" with a \"name\" of 1 to \(maximumNameBytes) bytes "
                    + "and a \"message\": \(line.excerpt)"
            )
        }
        return JobFailure(name, message)
    }
}

extension UnsafeRawBufferPointer {
    /// The beginning of the line, for a message.
    var excerpt: String {
        let text = JobResult.text(from: self[..<Swift.min(count, 160)], isCut: count > 160)
        return text.isEmpty ? "(an empty line)" : text + (count > 160 ? "…" : "")
    }
}
