import Libpq

extension AdminDatabase {
    /// The evidence of why a circuit last opened, and how the latest probes since then ended.
    package func evidence(of id: CircuitID) async throws -> CircuitEvidence {
        let openings = try await read(
            """
            select t.generation, t.at, t.reason, t.actor, t.evidence,
                   coalesce(t.evidence #>> '{common_value,path}'
                            = '$.' || array_to_string((breakwater.policy_of(t.kind, t.key)).key_path, '.'), false) as has_key
              from breakwater.circuit_transition t
             where t.kind = $1 and t.key = $2 and t.from_state = 'closed' and (t.to_state = 'open' or t.evidence is not null)
             order by t.generation desc, t.id desc limit 1
            """,
            [.text(id.kind), .text(id.key)]
        )
        var evidence = CircuitEvidence()
        var generation: Int64 = 0
        if let row = openings.first {
            generation = try row["generation"].int64()
            evidence.opening = try opening(row)
        }
        evidence.round = try await round(of: id, after: generation)
        return evidence
    }

    private func opening(_ row: Row) throws -> CircuitEvidence.Opening {
        var opening = CircuitEvidence.Opening(
            at: try row["at"].date(),
            reason: try row["reason"].string(),
            actor: try row["actor"].stringOrNil()
        )
        guard let json = try row["evidence"].stringOrNil() else { return opening }
        let kept = try KeptEvidence(json: json)
        opening.failures = kept.failures ?? []
        opening.repeats = kept.repeats ?? 0
        opening.examples = kept.examples ?? []
        opening.workers = kept.workers ?? []
        opening.commonValue = try row["has_key"].bool() ? nil : kept.commonValue
        return opening
    }

    /// The current round if any of its probes has ended, or else the last finished round.
    private func round(of id: CircuitID, after generation: Int64) async throws -> CircuitEvidence.Round? {
        let rounds = try await read(
            """
            (select 9223372036854775807 as generation, null::timestamptz as at, null as to_state, null as reason,
                    breakwater.evidence_of_round(c) as evidence
               from breakwater.circuit c
              where c.kind = $1 and c.key = $2 and c.state = 'half_open'
                and exists (select from breakwater.probe_result r
                             where r.kind = c.kind and r.key = c.key and r.generation = c.generation))
            union all
            (select t.generation, t.at, t.to_state, t.reason, t.evidence
               from breakwater.circuit_transition t
              where t.kind = $1 and t.key = $2 and t.generation > $3
                and t.from_state = 'half_open' and t.evidence is not null
              order by t.generation desc limit 1)
             order by generation desc limit 1
            """,
            [.text(id.kind), .text(id.key), .int8(generation)]
        )
        guard let row = rounds.first else { return nil }
        var probes = try KeptEvidence(json: try row["evidence"].string()).probes ?? []
        let workers = Set(probes.compactMap(\.worker))
        let names = try await read(
            "select w.id, w.name from breakwater.worker w where w.id = any ($1)",
            [.int8Array(Array(workers))]
        ).map { (try $0["id"].int64(), try $0["name"].string()) }
        let nameOfWorker = Dictionary(names) { first, _ in first }
        for place in probes.indices { probes[place].workerName = probes[place].worker.flatMap { nameOfWorker[$0] } }
        return CircuitEvidence.Round(
            at: try row["at"].dateOrNil(),
            to: try row["to_state"].stringOrNil(),
            reason: try row["reason"].stringOrNil(),
            probes: probes
        )
    }
}
