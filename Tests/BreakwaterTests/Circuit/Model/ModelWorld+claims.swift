import Libpq

@testable import Breakwater

extension ModelWorld {
    /// Lets a worker claim from every lane of its kinds.
    func claim(_ index: Int, _ slot: Int) -> Move {
        let worker = units[index].workers[slot]
        let concurrency = units[index].concurrency
        let running = units[index].held(by: worker).count
        // A unit with keys has room for all jobs. `ModelUnit.all()` says why.
        let room = units[index].isKeyed ? concurrency : max(0, concurrency - running)
        let total = units[index].isKeyed ? concurrency : Int.random(in: 0...max(1, room), using: &generator)
        let kinds = units[index].kinds
        let lanes = kinds.map { Lane(queue: "default", kind: $0, priority: 5) }
        let claim = Claim(
            worker: worker,
            lanes: lanes,
            room: kinds.map { ($0, room, concurrency) },
            total: total,
            isLate: true
        )
        return Move(claim) { claimed in
            self.note("claim \(worker): \(claimed.map { "\($0.job.id) \($0.job.circuitKey)@\($0.job.generation)" })")
            try self.accept(index, claimed, by: worker, room: room, total: total)
        }
    }

    /// Lets a worker claim suspects, if there are any and none is running in any unit. All of them have the same group
    /// size, and the worker claims that many.
    func host(_ index: Int, _ slot: Int) -> Move {
        let worker = units[index].workers[slot]
        return Move(ClaimSuspects(worker: worker)) { claimed in
            self.note("host \(worker): \(claimed.map { "\($0.job.id) \($0.job.circuitKey)@\($0.job.generation)" })")
            let hostable =
                self.units.contains(where: \.hostsSuspect) ? [:] : self.units[index].hostable(at: self.now)
            // The first claimed suspect decides the size of the group.
            let size = claimed.first.flatMap { hostable[$0.job.id] } ?? 0
            let likeIt = hostable.values.count { $0 == size }
            let expected = min(size, likeIt, self.units[index].concurrency)
            try self.require(
                claimed.count == expected && claimed.isEmpty == hostable.isEmpty,
                "hosted \(claimed.count), not \(expected), of \(hostable)"
            )
            for job in claimed.map(\.job) {
                try self.require(hostable[job.id] == size, "hosted \(job.id), not one of \(hostable)")
                let id = self.units[index].gate(of: job.kind)
                let generation = self.units[index].circuits[id]?.generation ?? 0
                let admission = Circuit.Admission(count: 1, generation: generation, isProbe: false)
                try self.take(index, job, by: worker, through: id, admission)
                self.units[index].unsettled[job.lease, default: 0] += 1
                self.tally.hosted += 1
            }
        }
    }

    private func accept(_ index: Int, _ claimed: [ClaimedJob], by worker: Int64, room: Int, total: Int) throws {
        let before = units[index].circuits
        // Parked jobs are claimed only as probes of their key.
        let isAside = { (job: Job) in self.units[index].isKeyed && job.isProbe && job.circuitKey != "" }
        let fromLanes = claimed.map(\.job).filter { !isAside($0) }
        let fromAside = claimed.map(\.job).filter(isAside)
        let waiting = Dictionary(uniqueKeysWithValues: units[index].kinds.map { ($0, units[index].waiting(of: $0)) })
        var left = total
        for kind in units[index].kinds where left > 0 {
            let id = units[index].gate(of: kind)
            guard let circuit = before[id], circuit.mayAdmit(at: now), waiting[kind]?.isEmpty == false else { continue }
            let admission = admit(index, id, min(left, room), room: room)
            guard admission.count > 0 else { continue }
            // A sample of probes skips jobs whose key does not admit them, unless there are no others.
            let letThrough = units[index].waiting(of: kind).filter { self.isLetThrough(index, kind, $0, before) }
            let isSample = admission.isProbe && !letThrough.isEmpty
            if units[index].isKeyed, !isSample { park(index, kind, before) }
            let eligible = isSample ? letThrough : units[index].waiting(of: kind)
            let jobs = fromLanes.filter { $0.kind == kind }
            let expected = min(admission.count, eligible.count)
            try require(jobs.count == expected, "\(kind): claimed \(jobs.count) from the lane, not \(expected)")
            try require(Set(jobs.map(\.id)).isSubset(of: eligible), "\(kind): claimed what was not waiting")
            if admission.isProbe { try checkSample(index, jobs, of: eligible, id, admission.generation) }
            for job in jobs { try take(index, job, by: worker, through: id, admission) }
            left -= jobs.count
        }
        try require(total - left == fromLanes.count, "claimed \(fromLanes.count) from lanes, not \(total - left)")

        var expected = 0
        for (id, circuit) in before where id.kind != "*" && id.key != "" && left > 0 {
            let parked = units[index].parked(of: id.kind, key: id.key)
            guard circuit.state.phase != .closed, circuit.mayAdmit(at: now), !parked.isEmpty else { continue }
            let admission = admit(index, id, left, room: room)
            let jobs = fromAside.filter { $0.circuitKey == id.key }
            let count = min(admission.count, parked.count)
            try require(jobs.count == count, "\(id): \(jobs.count) probes, not \(count)")
            try require(Set(jobs.map(\.id)).isSubset(of: parked), "\(id): probes that were not aside")
            try checkSample(index, jobs, of: parked, id, admission.generation)
            for job in jobs { try take(index, job, by: worker, through: id, admission) }
            expected += count
        }
        try require(fromAside.count == expected, "claimed \(fromAside.count) from aside, not \(expected)")
        for job in claimed.map(\.job) { units[index].unsettled[job.lease, default: 0] += 1 }
    }

    /// Whether a job's key admits it.
    private func isLetThrough(
        _ index: Int,
        _ kind: String,
        _ job: Int64,
        _ circuits: [ModelUnit.CircuitID: Circuit]
    ) -> Bool {
        guard units[index].isKeyed, let key = units[index].jobs[job]?.key, key != "" else { return true }
        return (circuits[ModelUnit.CircuitID(kind: kind, key: key)]?.state.phase ?? .closed) == .closed
    }

    /// Checks that probes are jobs that have not failed and were not probes lately, as long as there are such jobs.
    private func checkSample(
        _ index: Int,
        _ jobs: [Job],
        of eligible: [Int64],
        _ id: ModelUnit.CircuitID,
        _ generation: Int64
    ) throws {
        func isGood(_ job: Int64) -> Bool {
            units[index].jobs[job]?.hasErrors == false && !units[index].wasProbe(job, of: id, lately: generation)
        }
        let (taken, good) = (jobs.count { isGood($0.id) }, eligible.count(where: isGood))
        try require(
            taken >= min(jobs.count, good),
            "\(id): \(taken) of \(jobs.count) probes had not failed, and \(good) such jobs waited"
        )
    }

    private func admit(
        _ index: Int,
        _ id: ModelUnit.CircuitID,
        _ wanted: Int,
        room: Int
    ) -> Circuit.Admission {
        let concurrency = units[index].concurrency
        guard var circuit = units[index].circuits[id] else {
            return Circuit.Admission(count: 0, generation: 0, isProbe: false)
        }
        defer { units[index].circuits[id] = circuit }
        return circuit.admit(
            wanted,
            running: concurrency - room,
            concurrency: concurrency,
            at: now,
            using: &generator
        )
    }

    /// Parks the jobs whose key's circuit is not closed.
    private func park(_ index: Int, _ kind: String, _ circuits: [ModelUnit.CircuitID: Circuit]) {
        for id in units[index].waiting(of: kind) {
            guard let key = units[index].jobs[id]?.key, key != "" else { continue }
            let circuit = circuits[ModelUnit.CircuitID(kind: kind, key: key)]
            if let circuit, circuit.state.phase != .closed { units[index].jobs[id]?.place = .parked }
        }
    }

    /// Records a claimed job, after checking that it matches the circuit that admitted it.
    private func take(
        _ index: Int,
        _ claimed: Job,
        by worker: Int64,
        through id: ModelUnit.CircuitID,
        _ admission: Circuit.Admission
    ) throws {
        guard var job = units[index].jobs[claimed.id], let circuit = units[index].circuits[id] else { return }
        try require(circuit.state.phase != .open, "job \(claimed.id) was claimed while \(id) is open")
        var key = id.key
        var generation = admission.generation
        if units[index].isKeyed, !admission.isProbe {
            key = job.key
            let own = units[index].circuits[ModelUnit.CircuitID(kind: job.kind, key: key)]
            generation = own?.generation ?? -admission.generation
        }
        job.attempt += 1
        let expected = "attempt \(job.attempt), generation \(generation), key \(key), probe \(admission.isProbe)"
        let actual =
            "attempt \(claimed.attempt), generation \(claimed.generation), key \(claimed.circuitKey), probe \(claimed.isProbe)"
        try require(actual == expected, "job \(claimed.id) through \(id): \(actual); expected \(expected)")
        job.place = .held(claimed, worker: worker)
        units[index].jobs[claimed.id] = job
        tally.claimed += 1
        if admission.isProbe {
            tally.probes += 1
            units[index].circuits[id]?.lease(probe: claimed.id, until: now + ModelUnit.probeLease)
        }
    }
}

extension Circuit {
    /// Whether a claim would ask this circuit at all.
    fileprivate func mayAdmit(at now: Duration) -> Bool {
        guard case .open(let retryAt) = state else { return true }
        return retryAt.map { $0 <= now } ?? false
    }
}
