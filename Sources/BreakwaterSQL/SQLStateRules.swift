import Breakwater
import Foundation
import Libpq

/// Decides the outcome of a call by the SQLSTATE of its error.
struct SQLStateRules: Sendable {
    /// The SQLSTATE that a function raises to choose the outcome itself.
    static let own = "BRKWT"

    private enum Verdict {
        case retry, discard
    }

    /// Bad data stays bad: class 22 is about values, and class 23 about constraints.
    private static let defaults: [String: Verdict] = ["22": .discard, "23": .discard]

    /// The verdicts by SQLSTATE or class. A SQLSTATE goes before its class.
    private let verdicts: [String: Verdict]

    /// - Throws: ``SQLPluginError``.
    init(discardOn: [String], retryOn: [String]) throws {
        for (code, states) in [(SQLPluginError.Code.invalidDiscardOn, discardOn), (.invalidRetryOn, retryOn)] {
            for state in states where !Self.isState(state) {
                throw SQLPluginError(
                    code,
                    "'\(state)' is no SQLSTATE; give five characters, such as 23505, or a class: 23"
                )
            }
        }
        if let both = discardOn.first(where: retryOn.contains) {
            throw SQLPluginError(.invalidRetryOn, "'\(both)' is in discard_on too; give it in one of them")
        }
        var verdicts = Self.defaults
        for state in discardOn { verdicts[state] = .discard }
        for state in retryOn { verdicts[state] = .retry }
        self.verdicts = verdicts
    }

    static func isState(_ text: String) -> Bool {
        text.wholeMatch(of: /[0-9A-Z]{2}(?:[0-9A-Z]{3})?/) != nil && text != own
    }

    /// The outcome of a call that ended with an error, after which nothing of it is left in the database.
    func outcome(of error: PostgresError) -> JobOutcome {
        guard error.code == .server, let state = error.sqlState else {
            switch error.code {
            case .timedOut: return .failed(JobFailure("timeout", error.message))
            // The payload cannot be sent, however often it is tried.
            case .invalidParameter: return .discarded(JobFailure("sql.invalidPayload", error.message))
            // The call may have been what ended its session, so the attempt counts.
            default: return .unavailable(JobFailure("sql.connectionLost", error.message))
            }
        }
        if state == Self.own { return Self.requestedOutcome(error) }
        if let verdict = verdicts[state] ?? verdicts[String(state.prefix(2))] {
            let failure = Self.failure(error)
            return verdict == .discard ? .discarded(failure) : .failed(failure)
        }
        switch state {
        case "57014":
            return .failed(JobFailure("timeout", "the function ran for too long and was cancelled"))
        case _ where state.hasPrefix("53"):
            // The server lacks memory, disk or connections.
            return .unavailable(Self.failure(error))
        default:
            return .failed(Self.failure(error))
        }
    }

    private static func failure(_ error: PostgresError) -> JobFailure {
        let parts = [error.message, error.detail, error.hint, error.context]
        return JobFailure("sql.\(error.sqlState ?? "unknown")", parts.compactMap(\.self).joined(separator: "\n"))
    }

    /// The DETAIL of an error with the SQLSTATE `BRKWT`.
    private struct Request: Decodable {
        var outcome: String
        var seconds: Double?
        var name: String?
    }

    private static func requestedOutcome(_ error: PostgresError) -> JobOutcome {
        func refused(_ problem: String) -> JobOutcome {
            .failed(
                JobFailure(
                    "sql.BRKWT",
                    """
                    the function raised BRKWT, and \(problem); \
                    give a DETAIL such as {"outcome": "snooze", "seconds": 60}; the outcomes are snooze, throttle, unavailable and discard. Its message: \(error.message)
                    """
                )
            )
        }
        guard let detail = error.detail, let request = try? JSONDecoder().decode(Request.self, from: Data(detail.utf8))
        else { return refused(error.detail == nil ? "it has no DETAIL" : "its DETAIL cannot be read") }
        if let seconds = request.seconds, seconds < 0 { return refused("its seconds are negative") }
        if let name = request.name, !name.isName {
            return refused("its name has not 1 to 200 bytes, or has control characters")
        }
        let failure = JobFailure(request.name ?? "sql.\(request.outcome)", error.message)
        let delay = request.seconds.map { Duration.seconds(min($0, SettingLimits.longest.inSeconds)) }
        switch request.outcome {
        case "snooze":
            // Without a time, the job would run again at once and forever, because a snooze spends no attempt.
            guard let delay, delay > .zero else { return refused("its DETAIL has no seconds above 0 to snooze") }
            return .snoozed(delay)
        case "throttle": return .throttled(failure, retryAfter: delay ?? .zero)
        case "unavailable": return .unavailable(failure, retryAfter: delay)
        case "discard": return .discarded(failure)
        default: return refused("its DETAIL has the unknown outcome '\(request.outcome)'")
        }
    }
}
