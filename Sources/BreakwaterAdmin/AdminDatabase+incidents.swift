package import Foundation
package import Libpq

/// One row of `breakwater.incident`: the time from a circuit's first opening to its close, and what it cost.
///
/// The counts are nil if the incident ended before the fleet's leader counted for the first time.
package struct Incident: Equatable, Sendable {
    package var id: Int64
    package var circuit: CircuitID
    package var circuitName: String
    package var beganAt: Date
    /// When the incident ended; nil while it continues.
    package var endedAt: Date?
    /// The duration of the incident, up to now while it continues.
    package var duration: Duration
    /// How long the circuit was not closed during the incident.
    package var timeOpen: Duration
    package var openings: Int
    /// Whether the first round of probes after each opening closed the circuit.
    package var isFalseAlarm: Bool
    /// The reason of the first opening.
    package var cause: String
    /// Who opened the circuit; nil when the breaker did.
    package var actor: String?
    /// The reason of the last close.
    package var endReason: String?
    /// The failures that led to the first opening, such as `http.500 (9), http.timeout (1)`; nil for none.
    package var failures: String?
    /// The evidence of the first opening as JSON.
    package var evidence: String?
    package var counts: Counts
    /// Whether the counts cover the whole incident.
    package var isCounted: Bool

    /// The counts of an incident. Waiting jobs are counted up to 100,000.
    package struct Counts: Equatable, Sendable {
        /// Jobs that waited for the circuit: at the first count, the maximum, and at the last count.
        package var waitingAtBegin: Int?
        package var mostWaiting: Int?
        package var waiting: Int?
        package var longestWait: Duration?
        package var attemptsSpent: Int?
        package var handedBack: Int?
        package var deadLetters: Int?
        /// How many of the dead letters still exist, up to ``AdminDatabase/countCap``; nil if they were not counted.
        package var deadLettersLeft: Int?
        package var calls: Int?
        package var callsSpared: Int?
    }
}

/// Selects incidents. Every condition that is not nil must hold.
package struct IncidentFilter: Equatable, Sendable {
    /// A kind of job, or the name of a circuit that several kinds share.
    package var kind: String?
    package var key: String?
    /// How long ago an incident may have begun. Incidents that continue are always included.
    package var since: Duration?

    package init(kind: String? = nil, key: String? = nil, since: Duration? = nil) {
        self.kind = kind
        self.key = key
        self.since = since
    }
}

extension AdminDatabase {
    /// `breakwater.incident`, the newest first.
    ///
    /// - Parameters:
    ///   - filter: The incidents to return.
    ///   - before: Only incidents with a lower id are returned; nil for all.
    ///   - limit: The most incidents to return.
    package func incidents(_ filter: IncidentFilter = IncidentFilter(), before: Int64? = nil, limit: Int) async throws
        -> [Incident]
    {
        try await read(
            """
            select \(Self.incidentColumns), null::bigint as dead_letters_left
              from breakwater.incident i
             where ($1::text is null or i.kind = $1 or (i.kind = '*' and i.key = $1))
               and ($2::text is null or i.key = $2)
               and ($3::interval is null or i.ended_at is null or i.began_at > now() - $3)
               and ($4::bigint is null or i.id < $4)
             order by i.id desc limit $5
            """,
            [.text(filter.kind), .text(filter.key), .interval(filter.since), .int8(before), .int8(Int64(limit))]
        ).map { try Incident($0) }
    }

    /// One incident, with the number of its dead letters that still exist; nil if there is no such incident.
    package func incident(id: Int64) async throws -> Incident? {
        try await read(
            "select \(Self.incidentColumns), i.dead_letters_left from breakwater.incident i where i.id = $1",
            [.int8(id)]
        ).first.map { try Incident($0) }
    }

    /// The latest incidents of one circuit, the newest first.
    package func incidents(of circuit: CircuitID, limit: Int) async throws -> [Incident] {
        try await read(
            """
            select \(Self.incidentColumns), null::bigint as dead_letters_left
              from breakwater.incident i where i.kind = $1 and i.key = $2 order by i.id desc limit $3
            """,
            [.text(circuit.kind), .text(circuit.key), .int8(Int64(limit))]
        ).map { try Incident($0) }
    }

    private static let incidentColumns = """
        i.id, i.kind, i.key, i.circuit, i.began_at, i.ended_at, extract(epoch from i.duration)::float8 as duration,
        extract(epoch from i.time_open)::float8 as time_open, i.openings, i.is_false_alarm, i.cause, i.actor,
        i.end_reason, breakwater.failures_in_words(i.evidence) as failures, i.evidence, i.waiting_at_begin,
        i.most_waiting, i.waiting, extract(epoch from i.longest_wait)::float8 as longest_wait, i.attempts_spent,
        i.handed_back, i.dead_letters, i.calls, i.calls_spared, i.is_counted
        """
}

extension Incident {
    package init(_ row: Row) throws {
        self.init(
            id: try row["id"].int64(),
            circuit: CircuitID(kind: try row["kind"].string(), key: try row["key"].string()),
            circuitName: try row["circuit"].string(),
            beganAt: try row["began_at"].date(),
            endedAt: try row["ended_at"].dateOrNil(),
            duration: try row["duration"].seconds(),
            timeOpen: try row["time_open"].seconds(),
            openings: try row["openings"].int(),
            isFalseAlarm: try row["is_false_alarm"].bool(),
            cause: try row["cause"].string(),
            actor: try row["actor"].stringOrNil(),
            endReason: try row["end_reason"].stringOrNil(),
            failures: try row["failures"].stringOrNil(),
            evidence: try row["evidence"].stringOrNil(),
            counts: Counts(
                waitingAtBegin: try row["waiting_at_begin"].intOrNil(),
                mostWaiting: try row["most_waiting"].intOrNil(),
                waiting: try row["waiting"].intOrNil(),
                longestWait: try row["longest_wait"].doubleOrNil().map { .seconds($0) },
                attemptsSpent: try row["attempts_spent"].intOrNil(),
                handedBack: try row["handed_back"].intOrNil(),
                deadLetters: try row["dead_letters"].intOrNil(),
                deadLettersLeft: try row["dead_letters_left"].intOrNil(),
                calls: try row["calls"].intOrNil(),
                callsSpared: try row["calls_spared"].intOrNil()
            ),
            isCounted: try row["is_counted"].bool()
        )
    }
}
