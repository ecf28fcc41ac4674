package import Foundation
import Libpq

extension AdminDatabase {
    /// The circuit that a user names by a kind, or by a kind and a key; nil if there is none.
    ///
    /// Without a key it is the circuit that the kind's calls belong to, which several kinds may share. A shared circuit
    /// can also be named directly, so that users need not know that its kind is `*`.
    package func circuitID(kind: String, key: String?) async throws -> CircuitID? {
        try await read(
            """
            select c.kind, c.key
              from breakwater.circuit c
             cross join lateral (
                   select case when c.kind = '*' and c.key = (select h.shared_key from breakwater.handler h
                                                               where h.kind = $1) then 1
                               when c.kind = $1 and c.key = '' then 2
                               when c.kind = '*' and c.key = $1 then 3 end as rank) r
             where case when $2::text is null then r.rank is not null else c.kind = $1 and c.key = $2 end
             order by r.rank limit 1
            """,
            [.text(kind), .text(key)]
        ).first.map { CircuitID(kind: try $0["kind"].string(), key: try $0["key"].string()) }
    }

    /// `breakwater.circuit_status`, with the suspended workers of each circuit.
    ///
    /// A kind that shares a circuit has an unused one of its own, which is left out.
    ///
    /// - Parameter id: The circuit; nil for all.
    package func circuits(_ id: CircuitID? = nil) async throws -> [CircuitStatus] {
        let suspensions = Dictionary(grouping: try await suspensions()) { "\($0.circuit)" }
        return try await read(
            """
            with p as materialized (
                select o.kind, o.key
                  from breakwater.circuit o
                 where case when $1::text is not null then o.kind = $1 and o.key = $2
                            else not exists (select from breakwater.handler h
                                              where h.kind = o.kind and o.key = '' and h.shared_key is not null) end
            )
            -- Asked for all at once, and up to a cap that none reaches: the view would look up what runs for each.
            select \(Self.circuitColumns), b.waiting
              from p
              join breakwater.waiting_behind(array(select kind from p), array(select key from p), 2147483647) b
                on b.kind = p.kind and b.key = p.key
             cross join lateral (select * from breakwater.circuit_status s where s.kind = p.kind and s.key = p.key) c
             order by c.name
            """,
            [.text(id?.kind), .text(id?.key)],
            // The query counts the jobs that wait for each circuit, which may take long.
            timeout: .seconds(300)
        ).map { row in
            var circuit = try CircuitStatus(row)
            circuit.suspensions = suspensions["\(circuit.id)"] ?? []
            return circuit
        }
    }

    /// `breakwater.suspension_status`.
    package func suspensions() async throws -> [Suspension] {
        try await read(
            """
            select kind, key, circuit, worker, worker_name, since, until, times, reason,
                   extract(epoch from until - now())::float8 as ends_in
              from breakwater.suspension_status order by circuit, worker
            """
        ).map { try Suspension($0) }
    }

    /// `breakwater.circuit_transition`, the newest first.
    ///
    /// - Parameters:
    ///   - kind: Only transitions of circuits of this kind are returned; nil for all kinds.
    ///   - key: Only transitions of this key are returned; nil for all keys.
    ///   - limit: The most transitions to return.
    package func transitions(kind: String? = nil, key: String? = nil, limit: Int) async throws -> [RecordedTransition] {
        try await read(
            """
            select t.kind, t.key, breakwater.circuit_name(t.kind, t.key) as circuit, t.at, t.generation, t.from_state,
                   t.to_state, t.reason, t.actor, t.worker, w.name as worker_name,
                   coalesce(breakwater.failures_in_words(t.evidence), breakwater.probes_in_words(t.evidence)) as evidence
              from breakwater.circuit_transition t left join breakwater.worker w on w.id = t.worker
             where ($1::text is null or t.kind = $1) and ($2::text is null or t.key = $2)
             order by t.id desc limit $3
            """,
            [.text(kind), .text(key), .int8(Int64(limit))]
        ).map { try RecordedTransition($0) }
    }

    /// `breakwater.open_circuit`, `close_circuit`, `disable_circuit`, `observe_circuit` and `reset_circuit`.
    ///
    /// - Parameters:
    ///   - id: The circuit.
    ///   - change: The change.
    ///   - reason: The reason, for the history.
    ///   - actor: Who makes the change; nil for the database's user.
    ///   - duration: How long the override lasts, by the database's clock; nil if only `until` ends it. A reset has no
    ///     end.
    ///   - until: When the override ends; nil for until a user makes another change.
    package func change(
        _ id: CircuitID,
        _ change: ManualCircuitChange,
        reason: String,
        actor: String?,
        for duration: Duration? = nil,
        until: Date? = nil
    ) async throws {
        let whoAndWhich = [Parameter.text(id.kind), .text(reason), .text(actor), .text(id.key)]
        let ends = [Parameter.interval(duration), .timestamptz(until)]
        let arguments = "($1, $2, coalesce(now() + $5, $6), coalesce($3, session_user), $4)"
        switch change {
        case .open: _ = try await one("select breakwater.open_circuit\(arguments)", whoAndWhich + ends)
        case .close: _ = try await one("select breakwater.close_circuit\(arguments)", whoAndWhich + ends)
        case .disable: _ = try await one("select breakwater.disable_circuit\(arguments)", whoAndWhich + ends)
        case .observe: _ = try await one("select breakwater.observe_circuit\(arguments)", whoAndWhich + ends)
        case .reset:
            _ = try await one(
                "select breakwater.reset_circuit($1, $2, coalesce($3, session_user), $4)",
                whoAndWhich
            )
        }
    }

    /// `breakwater.probe_circuit`: ends an open circuit's open time now.
    ///
    /// - Parameters:
    ///   - id: The circuit.
    ///   - reason: The reason, for the history.
    ///   - actor: Who makes the change; nil for the database's user.
    package func probe(_ id: CircuitID, reason: String, actor: String?) async throws {
        _ = try await one(
            "select breakwater.probe_circuit($1, $2, coalesce($3, session_user), $4)",
            [.text(id.kind), .text(reason), .text(actor), .text(id.key)]
        )
    }

    /// Some circuits. The jobs that wait for each are counted up to ``countCap``.
    ///
    /// Circuits that are not closed come first, then those with an override, then the others, each by name. A kind that
    /// shares a circuit has an unused one of its own, which is left out.
    ///
    /// - Parameters:
    ///   - id: The circuit; nil for all.
    ///   - limit: The most to return.
    ///   - offset: How many circuits to skip first.
    package func someCircuits(_ id: CircuitID? = nil, limit: Int, offset: Int = 0) async throws -> [CircuitStatus] {
        let suspensions = Dictionary(grouping: try await suspensions()) { "\($0.circuit)" }
        return try await read(
            """
            with p as materialized (
                select o.kind, o.key, row_number() over (
                               order by o.state = 'closed', o.override is null, o.kind = '*', o.kind, o.key) as place
                  from breakwater.circuit o
                 where case when $1::text is not null then o.kind = $1 and o.key = $2
                            else not exists (select from breakwater.handler h
                                              where h.kind = o.kind and o.key = '' and h.shared_key is not null) end
                 order by place limit $3 offset $4
            )
            select \(Self.circuitColumns), b.waiting
              from p
              join breakwater.waiting_behind(array(select kind from p), array(select key from p), $5) b
                on b.kind = p.kind and b.key = p.key
             cross join lateral (select * from breakwater.circuit_status s where s.kind = p.kind and s.key = p.key) c
             order by p.place
            """,
            [
                .text(id?.kind), .text(id?.key), .int8(Int64(limit)), .int8(Int64(offset)),
                .int4(Int32(Self.countCap)),
            ]
        ).map { row in
            var circuit = try CircuitStatus(row)
            circuit.suspensions = suspensions["\(circuit.id)"] ?? []
            return circuit
        }
    }

    /// The number of circuits by state.
    package func circuitCounts() async throws -> [String: Int] {
        let rows = try await read("select state, count(*) as count from breakwater.circuit group by state")
        return try Dictionary(uniqueKeysWithValues: rows.map { (try $0["state"].string(), try $0["count"].int()) })
    }

    /// `breakwater.window_parts`: the calls in the windows of some circuits, and how each window is measured.
    ///
    /// - Parameters:
    ///   - ids: Which circuits.
    ///   - parts: The number of equal parts into which each window is divided. The oldest part comes first.
    package func windows(of ids: [CircuitID], parts: Int) async throws -> [CircuitID: CircuitWindowParts] {
        let rows = try await read(
            """
            select i.kind, i.key, p.succeeded, p.failed, p.slow,
                   extract(epoch from h.circuit_window)::float8 as seconds, h.window_calls
              from unnest($1::text[], $2::text[]) i(kind, key)
             cross join lateral breakwater.policy_of(i.kind, i.key) h
             cross join lateral breakwater.window_parts(i.kind, i.key, $3) p
             order by i.kind, i.key, p.part
            """,
            [.textArray(ids.map(\.kind)), .textArray(ids.map(\.key)), .int4(Int32(clamping: parts))]
        )
        var windows: [CircuitID: CircuitWindowParts] = [:]
        for row in rows {
            let id = CircuitID(kind: try row["kind"].string(), key: try row["key"].string())
            let part = CallCounts(
                succeeded: try row["succeeded"].int(),
                failed: try row["failed"].int(),
                slow: try row["slow"].int()
            )
            windows[id, default: CircuitWindowParts()].parts.append(part)
            windows[id]?.seconds = try row["seconds"].doubleOrNil()
            windows[id]?.calls = try row["window_calls"].intOrNil()
        }
        return windows
    }

    private static let circuitColumns = """
        c.kind, c.key, c.name, c.state, c.generation, c.since, c.reason, c.retry_at, c.reopened, c.ramp_until,
        c.override, c.override_actor, c.override_until, c.probes_out, c.probes_succeeded, c.calls, c.failed,
        c.slow, c.failures_in_a_row, c.failure_threshold, c.slow_threshold, c.minimum_calls,
        c.consecutive_failures, c.probes, c.successes_to_close, c.fallback,
        extract(epoch from now() - c.since)::float8 as age,
        extract(epoch from c.retry_at - now())::float8 as next_probe_in,
        array(select h.kind from breakwater.handler h
               where c.kind = '*' and h.shared_key = c.key order by h.kind) as shared_by
        """
}

/// The calls in one part of a window, by how they ended.
package struct CallCounts: Equatable, Sendable {
    package var succeeded: Int
    package var failed: Int
    package var slow: Int

    package init(succeeded: Int, failed: Int, slow: Int) {
        self.succeeded = succeeded
        self.failed = failed
        self.slow = slow
    }
}

/// The calls in a circuit's window, in parts with the oldest first, and how the window is measured.
package struct CircuitWindowParts: Equatable, Sendable {
    package var parts: [CallCounts] = []
    /// The window's length in seconds; nil if it is measured in calls, or if the circuit has no handler.
    package var seconds: Double?
    /// The window's length in calls; nil if it is measured in time.
    package var calls: Int?

    package init() {}
}

extension AdminDatabase {
    /// The latest transitions of some circuits, the newest first, without their evidence.
    ///
    /// - Parameters:
    ///   - ids: Which circuits.
    ///   - length: How far back the transitions may be.
    ///   - limit: The most transitions to return.
    package func transitions(of ids: [CircuitID], within length: Duration, limit: Int) async throws
        -> [RecordedTransition]
    {
        try await read(
            """
            select t.kind, t.key, breakwater.circuit_name(t.kind, t.key) as circuit, t.at, t.generation, t.from_state,
                   t.to_state, t.reason, t.actor, t.worker, null::text as worker_name,
                   null::text as evidence
              from unnest($1::text[], $2::text[]) i(kind, key)
             cross join lateral (select * from breakwater.circuit_transition o
                                  where o.kind = i.kind and o.key = i.key and o.at > now() - $3
                                  order by o.generation desc limit $4) t
             order by t.id desc limit $4
            """,
            [
                .textArray(ids.map(\.kind)), .textArray(ids.map(\.key)), .interval(length), .int8(Int64(limit)),
            ]
        ).map { try RecordedTransition($0) }
    }
}
