package import Foundation

/// Why a circuit opened the last time, and how the latest round of probes ended: what `breakwater.circuit_transition`
/// keeps as evidence.
package struct CircuitEvidence: Equatable, Sendable {
    /// The latest opening; where the circuit only counts, the latest time that it would have opened. Nil: there was
    /// none.
    package var opening: Opening?
    /// The latest round of probes since that opening. Nil: none has ended.
    package var round: Round?

    /// A circuit went from closed to open, or would have.
    package struct Opening: Equatable, Sendable {
        package var at: Date
        package var reason: String
        /// Who opened it; nil when the breaker did, and then there are failures.
        package var actor: String?
        /// How many calls failed, by the failures' names, the most frequent first.
        package var failures: [FailureCount] = []
        /// How many of them were repeats, which count for nothing: their jobs fail while others succeed.
        package var repeats = 0
        /// Some of the jobs, the latest first.
        package var examples: [FailedJob] = []
        /// The workers that saw the failures, the one with most failures first.
        package var workers: [WorkerCount] = []
        /// Nil also if the circuit already has a key that separates such jobs.
        package var suspect: Suspect?
    }

    /// How often calls failed under one name.
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

    /// How many failures a worker saw.
    package struct WorkerCount: Decodable, Equatable, Sendable {
        package var worker: Int64
        /// Its name then; nil when it was gone.
        package var name: String?
        package var count: Int
    }

    /// A value in payloads that the failed jobs have, and the jobs that wait do not.
    package struct Suspect: Decodable, Equatable, Sendable {
        package var path: String
        package var value: String
        /// How many failed jobs have the value, of the `ofFailed` that were looked at.
        package var failed: Int
        package var ofFailed: Int
        /// How many jobs that wait and have not failed have the value, of the `ofOthers` that were looked at.
        package var others: Int
        package var ofOthers: Int

        private enum CodingKeys: String, CodingKey {
            case path, value, failed, others
            case ofFailed = "of_failed"
            case ofOthers = "of_others"
        }

        /// What was seen: `60 of 60 failed jobs have $.account = x, and 0 of 100 jobs that wait`.
        package var finding: String {
            "\(failed) of \(ofFailed) failed jobs have \(path) = \(value), and \(others) of \(ofOthers) jobs that wait"
        }

        /// The line of a circuit's configuration that would help: `key: $.account`.
        package var remedy: String { "key: \(path)" }
    }

    /// The probes of one half-open state.
    package struct Round: Equatable, Sendable {
        /// When it was over; nil while it goes on.
        package var at: Date?
        /// The state that it led to; nil while it goes on.
        package var to: String?
        /// Nil while it goes on.
        package var reason: String?
        /// In the order in which they ended.
        package var probes: [Probe]
    }

    /// How one probe ended.
    package struct Probe: Decodable, Equatable, Sendable {
        package var job: Int64
        package var outcome: String
        package var name: String?
        package var message: String?
        package var worker: Int64?
        /// Nil when the worker is gone.
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
    var suspect: CircuitEvidence.Suspect?
    var probes: [CircuitEvidence.Probe]?

    init(json: String) throws {
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .custom { decoder in
            let text = try decoder.singleValueContainer().decode(String.self)
            // As Postgres writes a time into JSON: a fraction only where there is one.
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
