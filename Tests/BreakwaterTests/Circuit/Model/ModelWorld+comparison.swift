import Libpq

@testable import Breakwater

extension ModelWorld {
    /// Compares the whole state of the circuits.
    func comparison() -> [Move] { [history(), circuits(), probes()] }

    /// Compares every job.
    func compareJobs() async throws {
        let rows = try await connection.query(
            """
            select j.id, j.attempt + (h.job is not null)::integer || case when j.fails_alone then ' alone' else '' end, h.worker, j.parked, h.lease,
                   case when j.run_at is null then 'waiting' when j.run_at = 'infinity' then 'suspect' else 'accused' end
              from breakwater.job j left join breakwater.held h on h.job = j.id order by j.id
            """
        )
        var expected: [String] = []
        for (id, job) in units.flatMap(\.jobs).sorted(by: { $0.key < $1.key }) {
            switch job.place {
            case .waiting: expected.append("\(id) attempt \(job.summary) waiting")
            case .suspect: expected.append("\(id) attempt \(job.summary) suspect")
            case .accused: expected.append("\(id) attempt \(job.summary) accused")
            case .parked: expected.append("\(id) attempt \(job.summary) parked \(job.key)")
            case .held(let claimed, let worker):
                expected.append("\(id) attempt \(job.summary) held by \(worker) under \(claimed.lease)")
            }
        }
        let actual = try rows.map { row in
            let start = "\(try row[0].int64()) attempt \(try row[1].string())"
            if let worker = try row[2].int64OrNil() { return "\(start) held by \(worker) under \(try row[4].int64())" }
            return try row[3].stringOrNil().map { "\(start) parked \($0)" } ?? "\(start) \(row[5].string())"
        }
        for (actual, expected) in zip(actual, expected) {
            try require(actual == expected, "\(actual); expected \(expected)")
        }
        try require(actual.count == expected.count, "\(actual.count) jobs, not \(expected.count)")
    }

    /// Checks that the history has each transition once, in order, and nothing else.
    private func history() -> Move {
        let statement = Statement(
            """
            select id, kind, key, generation, from_state, to_state, reason, actor
              from breakwater.circuit_transition where id > $1 order by id
            """,
            [.int8(lastTransition)]
        )
        return Move(statement) { result in
            var actual: [ModelUnit.CircuitID: [String]] = [:]
            for row in result {
                self.lastTransition = try row[0].int64()
                let id = ModelUnit.CircuitID(kind: try row[1].string(), key: try row[2].string())
                let (from, to) = (try row[4].string(), try row[5].string())
                let line = "\(try row[3].int64()) \(from) → \(to) by \(try row[7].stringOrNil() ?? "itself"): "
                actual[id, default: []].append(line + Self.comparable(try row[6].string()))
                self.tally.transitions["\(from) → \(to)", default: 0] += 1
            }
            for index in self.units.indices {
                for id in self.units[index].circuits.keys.sorted() {
                    let transitions = self.units[index].circuits[id]?.drainTransitions() ?? []
                    for transition in transitions where transition.from != transition.to || transition.actor != nil {
                        self.units[index].phases[id, default: [:]][transition.generation] = transition.to
                    }
                    let expected = transitions.map {
                        "\($0.generation) \($0.from.rawValue) → \($0.to.rawValue) by \($0.actor ?? "itself"): "
                            + Self.comparable($0.reason)
                    }
                    let found = actual.removeValue(forKey: id) ?? []
                    try self.require(found == expected, "\(id): history \(found); expected \(expected)")
                    for line in found { self.note("\(id) \(line)") }
                }
            }
            try self.require(actual.isEmpty, "history of nobody: \(actual)")
        }
    }

    /// Returns a reason without the time in it.
    private static func comparable(_ reason: String) -> String {
        reason.firstRange(of: " until ").map { String(reason[..<$0.upperBound]) } ?? reason
    }

    private func circuits() -> Move {
        let statement = Statement(
            """
            select c.kind, c.key, c.state, c.generation, c.reopened, c.successes, c.announced, c.override,
                   (extract(epoch from c.override_until - s.start) * 1000000)::int8,
                   (extract(epoch from c.ramp_until - s.start) * 1000000)::int8,
                   (extract(epoch from c.retry_at - s.start) * 1000000)::int8,
                   c.failures, c.slow, (extract(epoch from c.ramp) * 1000000)::int8,
                   (extract(epoch from c.opened_at - s.start) * 1000000)::int8,
                   (extract(epoch from c.was_open_for) * 1000000)::int8, coalesce(c.false_alarms, -1),
                   c.is_checked or c.state = 'closed'
              from breakwater.circuit c, (select '2030-01-01 00:00:00+00'::timestamptz as start) s
             -- A kind that shares a circuit has one of its own, which nothing happens to.
             where c.kind not like 'shared%'
            """
        )
        return Move(statement) { result in
            var seen: Set<ModelUnit.CircuitID> = []
            for row in result {
                let id = ModelUnit.CircuitID(kind: try row[0].string(), key: try row[1].string())
                seen.insert(id)
                guard let index = self.units.firstIndex(where: { $0.circuits[id] != nil }),
                    var circuit = self.units[index].circuits[id]
                else { throw Disagreement(description: "\(id): nobody expects this circuit") }
                let retryAt = try row[10].int64OrNil().map { Duration.microseconds($0) }
                try self.adopt(retryAt, id, &circuit)
                self.units[index].circuits[id] = circuit
                let actual = """
                    \(try row[2].string()) generation \(try row[3].int64()) reopened \(try row[4].int()) \
                    successes \(try row[5].int()) announced \(try row[6].bool()) \
                    override \(try row[7].stringOrNil() ?? "none") until \(try row[8].int64OrNil() ?? -1) \
                    ramp \(try row[9].int64OrNil() ?? -1) retry \(retryAt?.wholeMicroseconds ?? -1) \
                    failures \(try row[11].int()) slow \(try row[12].int()) length \(try row[13].int64OrNil() ?? -1) \
                    opened \(try row[14].int64OrNil() ?? -1) was open \(try row[15].int64()) \
                    alarms \(try row[16].int()) checked \(try row[17].bool())
                    """
                try self.require(actual == circuit.summary, "\(id): \(actual); expected \(circuit.summary)")
            }
            let expected = Set(self.units.flatMap(\.circuits.keys))
            try self.require(seen == expected, "circuits \(seen.sorted()); expected \(expected.sorted())")
        }
    }

    /// The database adds the jitter. This checks that it lies within its bounds, and takes its result over into the
    /// model.
    private func adopt(_ retryAt: Duration?, _ id: ModelUnit.CircuitID, _ circuit: inout Circuit) throws {
        guard let retryAt, case .open(_?) = circuit.state, circuit.since == now, circuit.isChecked else { return }
        let longest = circuit.policy.longestOpenTime(reopened: circuit.reopened)
        let (asked, cap) = (retryAfter[id] ?? .zero, circuit.policy.openCap)
        let (least, most) = (min(cap, max(longest / 2, asked)), min(cap, max(longest, asked)))
        let time = retryAt - now
        try require(
            time >= least - .microseconds(1) && time <= most + .microseconds(1),
            "\(id): open for \(time); expected \(least) to \(most)"
        )
        circuit.state = .open(retryAt: retryAt)
    }

    /// Checks that the live probes are those that were leased and have not ended, and no more than the policy allows.
    private func probes() -> Move {
        Move(Statement("select job, kind, key from breakwater.probe where expires_at > breakwater.clock()")) { result in
            var actual: [ModelUnit.CircuitID: Set<Int64>] = [:]
            for row in result {
                let id = ModelUnit.CircuitID(kind: try row[1].string(), key: try row[2].string())
                actual[id, default: []].insert(try row[0].int64())
            }
            for unit in self.units {
                for (id, circuit) in unit.circuits {
                    let expected = Set(circuit.probes.filter { $0.value > self.now }.keys)
                    let found = actual.removeValue(forKey: id) ?? []
                    try self.require(
                        found == expected,
                        "\(id): probes \(found.sorted()); expected \(expected.sorted())"
                    )
                    try self.require(found.count <= unit.policy.probes, "\(id): \(found.count) live probes")
                }
            }
            try self.require(actual.isEmpty, "probes of nobody: \(actual)")
        }
    }
}

extension ModelUnit.ModelJob {
    fileprivate var summary: String { "\(attempt)\(failsAlone ? " alone" : "")" }
}

extension Circuit {
    /// The state that is compared with the database's row.
    fileprivate var summary: String {
        var (round, ramp, retry) = (Round(), Ramp?.none, Duration?.none)
        switch state {
        case .closed(let admission): ramp = admission
        case .open(let retryAt): retry = retryAt
        case .halfOpen(let ended): round = ended
        }
        return """
            \(state.phase.rawValue) generation \(generation) reopened \(reopened) successes \(round.successes) \
            announced \(isAnnounced) override \(hold?.override.rawValue ?? "none") \
            until \(hold?.until?.wholeMicroseconds ?? -1) ramp \(ramp?.until.wholeMicroseconds ?? -1) \
            retry \(retry?.wholeMicroseconds ?? -1) failures \(round.failures) slow \(round.slow) \
            length \(ramp?.length.wholeMicroseconds ?? -1) opened \(openedAt?.wholeMicroseconds ?? -1) \
            was open \(wasOpenFor.wholeMicroseconds) alarms \(falseAlarms ?? -1) \
            checked \(isChecked || state.phase == .closed)
            """
    }
}
