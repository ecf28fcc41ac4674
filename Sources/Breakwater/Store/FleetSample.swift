import Foundation
import Libpq

/// `breakwater.sample_fleet`: the numbers of the fleet, from a sample that all workers share.
struct SampleFleet: StoreCall {
    /// The greatest age of a sample that is reused.
    var maxAge: Duration

    var statement: Statement {
        Statement("select breakwater.sample_fleet($1)", [.float8(maxAge.inSeconds)])
    }

    /// Decodes the sample; nil while another session is taking the very first one.
    func decode(_ result: QueryResult) throws(PostgresError) -> FleetSample? {
        guard !result[0][0].isNull else { return nil }
        let json = try result[0][0].string()
        do {
            return try FleetSample.decoder.decode(FleetSample.self, from: Data(json.utf8))
        } catch {
            throw PostgresError(.decoding, "the fleet's sample cannot be read: \(error)")
        }
    }
}

/// The result of `breakwater.sample_fleet`, whose comment says what is counted and up to which caps.
struct FleetSample: Decodable {
    struct Jobs: Decodable {
        var queue: String
        var kind: String
        var state: String
        var jobs: Double
        /// Seconds since the oldest job became ready, or was due.
        var oldest: Double?
    }

    struct DeadLetters: Decodable {
        var kind: String
        var reason: String?
        var jobs: Double
    }

    struct Circuit: Decodable {
        var circuit: String
        var state: String
    }

    struct KeyedCircuits: Decodable {
        var kind: String
        var state: String
        var circuits: Double
    }

    struct OfCircuit: Decodable {
        var circuit: String
        var jobs: Double?
        var probes: Double?
        var workers: Double?
    }

    struct Limit: Decodable {
        var name: String
        var type: String
        var running: Double
        var heldBack: Double
        var concurrency: Double?
    }

    struct ScheduleSlots: Decodable {
        var schedule: String
        /// Seconds by which the last slot's job was late, or since when the next slot has been due.
        var lateness: Double
        var enqueued: Int64
        var skipped: Int64
        var missed: Int64
    }

    var sampledAt: Double
    var suspects: Double
    var jobs: [Jobs]?
    var deadLetters: [DeadLetters]?
    var recentDeadLetters: [DeadLetters]?
    var circuits: [Circuit]?
    var keyedCircuits: [KeyedCircuits]?
    var waiting: [OfCircuit]?
    var probes: [OfCircuit]?
    var suspendedWorkers: [OfCircuit]?
    var limits: [Limit]?
    var workers: [String: Double]
    var slots: Double
    var busySlots: Double
    var pauses: [String: Double]
    /// The number of schedules by state.
    var schedules: [String: Double]
    var scheduleSlots: [ScheduleSlots]?

    static var decoder: JSONDecoder {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return decoder
    }
}

/// `breakwater.transitions_after`: the new rows of the circuits' history.
struct TransitionsAfter: StoreCall {
    /// The id after which to read; nil for only the newest id.
    var id: Int64?

    struct Transition {
        var id: Int64
        var circuit: String
        var from: String
        var to: String
    }

    struct Output: Sendable {
        var newest: Int64?
        var transitions: [Transition]
    }

    var statement: Statement {
        Statement("select id, circuit, from_state, to_state from breakwater.transitions_after($1)", [.int8(id)])
    }

    func decode(_ result: QueryResult) throws(PostgresError) -> Output {
        var output = Output(newest: nil, transitions: [])
        for row in result {
            let id = try row[0].int64()
            output.newest = max(id, output.newest ?? id)
            guard !row[1].isNull else { continue }
            output.transitions.append(
                Transition(
                    id: id,
                    circuit: try row[1].string(),
                    from: try row[2].string(),
                    to: try row[3].string()
                )
            )
        }
        return output
    }
}
