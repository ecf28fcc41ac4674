package import Foundation

/// The evidence in `breakwater.circuit_transition`: why a circuit last opened, and how the latest round of probes
/// ended.
package struct CircuitEvidence: Equatable, Sendable {
    /// The latest opening or, if the circuit's override is metrics only, the latest time that it would have opened. Nil
    /// if there was none.
    package var opening: Opening?
    /// The latest round of probes since that opening; nil if no probe has ended.
    package var round: Round?

    /// The event that a circuit went from closed to open, or would have.
    package struct Opening: Equatable, Sendable {
        package var at: Date
        package var reason: String
        /// Who opened the circuit; nil when the breaker did. In that case there are failures.
        package var actor: String?
        /// How many calls failed, by the failures' names, the most frequent first.
        package var failures: [FailureCount] = []
        /// How many of the failures were repeats, which do not count because their jobs fail while others succeed.
        package var repeats = 0
        /// Some of the failed jobs, the latest first.
        package var examples: [FailedJob] = []
        /// The workers that had the failures, the one with the most failures first.
        package var workers: [WorkerCount] = []
        /// The payload value that the failed jobs share. Also nil if the circuit's key already separates such jobs.
        package var commonValue: CommonValue?
    }

    /// The number of failures with one name.
    package struct FailureCount: Decodable, Equatable, Sendable {
        package var name: String
        package var count: Int
    }

    /// A job, and how it failed.
    package struct FailedJob: Decodable, Equatable, Sendable {
        package var job: Int64
        package var name: String
        package var message: String?
        package var at: Date?
    }

    /// The number of failures of a worker.
    package struct WorkerCount: Decodable, Equatable, Sendable {
        package var worker: Int64
        /// The worker's name then; nil if it was no longer registered.
        package var name: String?
        package var count: Int
    }

    /// A payload value that the failed jobs have and the waiting jobs do not.
    package struct CommonValue: Decodable, Equatable, Sendable {
        package var path: String
        package var value: String
        /// How many failed jobs have the value, of the `ofFailed` that were examined.
        package var failed: Int
        package var ofFailed: Int
        /// How many waiting jobs that have not failed have the value, of the `ofOthers` that were examined.
        package var others: Int
        package var ofOthers: Int

        private enum CodingKeys: String, CodingKey {
            case path, value, failed, others
            case ofFailed = "of_failed"
            case ofOthers = "of_others"
        }

        /// The finding in words: `60 of 60 failed jobs have $.account = x, and 0 of 100 jobs that wait`.
        package var finding: String {
            "\(failed) of \(ofFailed) failed jobs have \(path) = \(value), and \(others) of \(ofOthers) jobs that wait"
        }

        /// The line of a circuit's configuration that would help: `key: $.account`.
        package var remedy: String { "key: \(path)" }
    }

    /// The probes of one half-open state.
    package struct Round: Equatable, Sendable {
        /// When the round ended; nil while it continues.
        package var at: Date?
        /// The state that the round led to; nil while it continues.
        package var to: String?
        /// The reason for the verdict; nil while the round continues.
        package var reason: String?
        /// The probes in the order in which they ended.
        package var probes: [Probe]
    }

    /// How one probe ended.
    package struct Probe: Decodable, Equatable, Sendable {
        package var job: Int64
        package var outcome: String
        package var name: String?
        package var message: String?
        package var worker: Int64?
        /// The worker's name; nil if it is no longer registered.
        package var workerName: String?
        package var at: Date?
    }
}

/// The evidence of one transition, as the database keeps it.
struct KeptEvidence: Decodable {
    var failures: [CircuitEvidence.FailureCount]?
    var repeats: Int?
    var examples: [CircuitEvidence.FailedJob]?
    var workers: [CircuitEvidence.WorkerCount]?
    var commonValue: CircuitEvidence.CommonValue?
    var probes: [CircuitEvidence.Probe]?

    private enum CodingKeys: String, CodingKey {
        case failures, repeats, examples, workers, probes
        case commonValue = "common_value"
    }

    init(json: String) throws {
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .custom { decoder in
            let text = try decoder.singleValueContainer().decode(String.self)
            // Postgres writes a time into JSON with a fraction only if there is one.
            guard
                let date = (try? Date.ISO8601FormatStyle(includingFractionalSeconds: true).parse(text))
                    ?? (try? Date.ISO8601FormatStyle().parse(text))
            else {
                throw DecodingError.dataCorrupted(
                    .init(codingPath: decoder.codingPath, debugDescription: "no time: \(text)")
                )
            }
            return date
        }
        self = try decoder.decode(KeptEvidence.self, from: Data(json.utf8))
    }
}
