import Libpq

@testable import Breakwater

extension ModelWorld {
    /// Makes one random action of one unit.
    func act(_ index: Int) -> [Move] {
        let slot = Int.random(in: 0..<units[index].workers.count, using: &generator)
        switch Int.random(in: 0..<1000, using: &generator) {
        case 0..<420: return [claim(index, slot)]
        case 420..<950: return settle(index)
        case 950..<960: return crash(index, slot)
        case 960..<970: return leave(index, slot)
        case 970..<980: return [reconcile(index, slot)]
        case 980..<990: return [host(index, slot)]
        default: return override(index)
        }
    }

    // MARK: Settling

    private func settle(_ index: Int) -> [Move] {
        let worker = units[index].workers.filter { !units[index].held(by: $0).isEmpty }.randomElement(using: &generator)
        var runs: [(job: Job, ending: FinishedRun.Ending)] = []
        if let worker {
            let held = units[index].held(by: worker).shuffled(using: &generator)
            let count = Int.random(in: 1...min(6, held.count), using: &generator)
            runs = held.prefix(count).map { ($0, ending(index)) }
        }
        // Now and then, a result comes too late.
        if !units[index].stale.isEmpty, chance(worker == nil ? 1 : 0.05) {
            let old = units[index].stale.remove(at: .random(in: 0..<units[index].stale.count, using: &generator))
            if worker == nil || worker == old.worker, !runs.contains(where: { $0.job.id == old.job.id }) {
                return [settle(index, old.worker, runs, stale: (old.job, ending(index)))]
            }
        }
        guard let worker else { return [] }
        return [settle(index, worker, runs, stale: nil)]
    }

    private func settle(
        _ index: Int,
        _ worker: Int64,
        _ runs: [(job: Job, ending: FinishedRun.Ending)],
        stale: (job: Job, ending: FinishedRun.Ending)?
    ) -> Move {
        var claims: [Int64] = []
        for run in runs {
            units[index].unsettled[run.job.lease, default: 0] -= 1
            if units[index].unsettled[run.job.lease] == 0 {
                units[index].unsettled[run.job.lease] = nil
                claims.append(run.job.lease)
            }
        }
        let all = (runs + (stale.map { [$0] } ?? [])).map { FinishedRun($0.job, $0.ending) }
        return Move(Settle(worker: worker, runs: all, claims: claims)) { output in
            self.note(
                "settle \(worker): \(all.map { "\($0.id) \($0.circuitKey)@\($0.generation) \($0.ending.summary)" })"
            )
            try self.require(output.settled == runs.count, "settled \(output.settled) of \(runs.count)")
            try self.require(output.stale == (stale.map { [$0.job.id] } ?? []), "stale: \(output.stale)")
            self.tally.settled += runs.count
            self.tally.stale += stale == nil ? 0 : 1
            let before = self.units[index].jobs.mapValues(\.failedAt)
            for run in runs { self.finish(index, run.job, run.ending) }
            self.record(index, runs, failedBefore: before.compactMapValues { $0 })
        }
    }

    /// Updates the model with a settled job.
    private func finish(_ index: Int, _ claimed: Job, _ ending: FinishedRun.Ending) {
        guard var job = units[index].jobs[claimed.id] else { return }
        let id = units[index].circuitOfProbe(claimed)
        if claimed.isProbe {
            free(index, probe: claimed.id)
            units[index].probed[id, default: []].append((claimed.id, claimed.generation))
        }
        switch ending.outcomeClass {
        case .succeeded, .discarded:
            units[index].jobs[claimed.id] = nil
            return
        case .failed: break
        case .unavailable:
            // The probe's round decides later whether the failure was the job's own fault.
            if claimed.isProbe, job.handedBack < 100, !units[index].hasClosed(id, after: claimed.generation) {
                job.attempt -= 1
                job.handedBack += 1
                units[index].pending.append((claimed.id, id, claimed.generation))
            }
        default: job.attempt -= 1
        }
        if ending.outcomeClass == .failed || ending.outcomeClass == .unavailable { job.failedAt = now }
        if ending.failure != nil { job.hasErrors = true }
        // A run that was given up says nothing about the job.
        if ending.outcomeClass != .released { (job.crashes, job.group) = (0, 100) }
        job.returns()
        units[index].jobs[claimed.id] = job
    }

    func free(_ index: Int, probe id: Int64) {
        for circuit in units[index].circuits.keys { units[index].circuits[circuit]?.free(probe: id) }
    }

    /// Records the calls with the circuits, one generation after the other. All calls that were settled together are
    /// counted before any circuit is judged.
    private func record(
        _ index: Int,
        _ runs: [(job: Job, ending: FinishedRun.Ending)],
        failedBefore: [Int64: Duration]
    ) {
        struct Group: Hashable {
            var circuit: ModelUnit.CircuitID
            var generation: Int64
        }
        let counted = runs.filter { $0.ending.isSuccess || $0.ending.effect != .ignored }
        // The first failure of a key creates its circuit.
        if units[index].isKeyed {
            for (job, ending) in counted where job.circuitKey != "" && !ending.isSuccess {
                let id = ModelUnit.CircuitID(kind: job.kind, key: job.circuitKey)
                if units[index].circuits[id] == nil {
                    units[index].circuits[id] = Circuit(policy: units[index].policy, now: now, checksFirst: true)
                }
            }
        }
        for (job, ending) in counted where ending.isSuccess {
            let id = units[index].circuit(of: job)
            units[index].successes[ModelUnit.CircuitID(kind: job.kind, key: "")] = now
            if units[index].circuits[id]?.hold?.override != .disabled { units[index].successes[id] = now }
        }
        var groups: [Group: CircuitCalls] = [:]
        for (job, ending) in counted {
            let id = units[index].circuit(of: job)
            let generation = id.key == "" ? abs(job.generation) : job.generation
            var isRepeat = false
            if !ending.isSuccess, let before = failedBefore[job.id] {
                let wasDown = units[index].circuits[id]?.wasDownAt.map { $0 >= before } ?? false
                let hasSucceeded = units[index].successes[id, default: .zero] > before
                isRepeat = !wasDown && (hasSucceeded || units[index].jobs[job.id]?.failsAlone ?? false)
                units[index].jobs[job.id]?.failsAlone = isRepeat
                tally.repeats += isRepeat ? 1 : 0
            }
            groups[Group(circuit: id, generation: max(1, generation)), default: CircuitCalls()].add(ending, isRepeat)
            // The kind's own circuit also counts the successes of keys.
            let own = units[index].gate(of: job.kind)
            if id != own, ending.isSuccess, units[index].circuits[id]?.hold?.override != .disabled,
                let circuit = units[index].circuits[own], circuit.state.phase == .closed
            {
                groups[Group(circuit: own, generation: circuit.generation), default: CircuitCalls()].succeeded += 1
            }
        }
        let order = groups.sorted { ($0.key.circuit, $0.key.generation) < ($1.key.circuit, $1.key.generation) }
        for (group, calls) in order {
            guard var circuit = units[index].circuits[group.circuit] else { continue }
            let before = circuit.generation
            var askedFor = calls.retryAfter
            if case .halfOpen(let round) = circuit.state, let earlier = round.askedFor {
                askedFor = max(askedFor ?? .zero, earlier)
            }
            circuit.record(calls, of: group.generation, at: now, using: &generator)
            if circuit.generation != before { retryAfter[group.circuit] = askedFor }
            units[index].circuits[group.circuit] = circuit
        }
    }

    private func ending(_ index: Int) -> FinishedRun.Ending {
        let policy = units[index].policy
        var ending: FinishedRun.Ending
        switch Double.random(in: 0..<1, using: &generator) {
        case ..<0.05: ending = FinishedRun.Ending(outcomeClass: .released)
        case ..<0.08: ending = .snoozed()
        case ..<0.10: ending = .discarded
        case ..<0.12:
            ending = .failed()
            ending.effect = .ignored
        case ..<0.14 where !policy.tripOn.isEmpty:
            ending = .failed("fatal")
            ending.effect = .tripped
        default:
            let fails = chance(units[index].weather.failureRate)
            ending = fails ? (chance(0.5) ? .failed() : .unavailable()) : .succeeded
            if policy.slowCall != nil { ending.isSlow = chance(fails ? 0.3 : 0.15) }
        }
        if policy.honoursRetryAfter, ending.effect != .ignored, chance(0.3) {
            ending.retryAfter = .milliseconds(Int.random(in: 0...40_000, using: &generator))
        }
        return ending
    }

    // MARK: Losing jobs

    /// Lets a worker die and its lease end, and replaces it.
    private func crash(_ index: Int, _ slot: Int) -> [Move] {
        let worker = units[index].workers[slot]
        let lose = Statement(
            "update breakwater.worker set beat_at = now() - interval '2 days' where id = $1",
            [.int8(worker)]
        )
        let rescue = Move(Statement("select breakwater.rescue()")) { result in
            self.note("crash \(worker)")
            self.tally.crashes += 1
            let held = self.units[index].held(by: worker)
            let rescued = try result[0][0].int()
            try self.require(rescued == held.count, "rescued \(rescued) of \(held.count)")
            // Suspects that ran together are not accused. They run again in smaller groups.
            let suspects = held.filter { (self.units[index].jobs[$0.id]?.crashes ?? 0) >= 2 }
            for job in held { self.giveBack(index, job, worker, crashed: true, among: suspects.count) }
        }
        return [Move(lose), rescue, register(index, slot: slot)]
    }

    /// Lets a worker leave, and replaces it.
    private func leave(_ index: Int, _ slot: Int) -> [Move] {
        let worker = units[index].workers[slot]
        let leave = Move(Leave(worker: worker)) { count in
            self.note("leave \(worker)")
            let held = self.units[index].held(by: worker)
            try self.require(count == held.count, "gave back \(count) of \(held.count)")
            for job in held { self.giveBack(index, job, worker, crashed: false) }
        }
        return [leave, register(index, slot: slot)]
    }

    /// Reconciles a worker to which the answers of some claims were lost.
    private func reconcile(_ index: Int, _ slot: Int) -> Move {
        let worker = units[index].workers[slot]
        let leases = Set(units[index].held(by: worker).map(\.lease)).sorted()
        let known = leases.filter { _ in chance(0.5) }
        return Move(Reconcile(worker: worker, known: known)) { count in
            self.note("reconcile \(worker)")
            let lost = self.units[index].held(by: worker).filter { !known.contains($0.lease) }
            try self.require(count == lost.count, "gave back \(count) of \(lost.count)")
            for job in lost { self.giveBack(index, job, worker, crashed: false) }
        }
    }

    private func giveBack(_ index: Int, _ claimed: Job, _ worker: Int64, crashed: Bool, among suspects: Int = 0) {
        guard var job = units[index].jobs[claimed.id] else { return }
        if claimed.isProbe { free(index, probe: claimed.id) }
        units[index].unsettled[claimed.lease] = nil
        units[index].stale.append((claimed, worker))
        if units[index].stale.count > 20 { units[index].stale.removeFirst() }
        job.attempt -= 1
        if crashed, job.crashes >= 2, suspects > 1 {
            job.group = (suspects + 1) / 2
        } else {
            job.crashes += crashed ? 1 : 0
        }
        job.returns()
        units[index].jobs[claimed.id] = job
    }

    // MARK: Time and people

    /// Lets time make its transitions in all circuits.
    func turn() -> Move {
        Move(Statement("select breakwater.advance_circuits()")) { result in
            self.note("turn")
            var advanced = 0
            for index in self.units.indices {
                for (id, circuit) in self.units[index].circuits {
                    var circuit = circuit
                    circuit.applyDueTransition(at: self.now, using: &self.generator)
                    if circuit.generation != self.units[index].circuits[id]?.generation { advanced += 1 }
                    self.units[index].circuits[id] = circuit
                }
            }
            try self.require(try result[0][0].int() == advanced, "advanced \(try result[0][0].int()), not \(advanced)")
        }
    }

    /// Charges the probes that failed in rounds that closed their circuits.
    func charge() -> Move {
        Move(Statement("select breakwater.charge_probes(1000)")) { result in
            self.note("charge")
            var charged = 0
            for index in self.units.indices {
                let pending = self.units[index].pending
                self.units[index].pending = []
                for probe in pending {
                    guard let next = self.units[index].phases[probe.circuit]?[probe.generation + 1] else {
                        self.units[index].pending.append(probe)
                        continue
                    }
                    guard next == .closed, var job = self.units[index].jobs[probe.job] else { continue }
                    if case .held = job.place {
                        self.units[index].pending.append(probe)
                        continue
                    }
                    job.attempt += 1
                    job.handedBack = max(0, job.handedBack - 1)
                    self.units[index].jobs[probe.job] = job
                    charged += 1
                }
            }
            self.tally.charged += charged
            try self.require(try result[0][0].int() == charged, "charged \(try result[0][0].int()), not \(charged)")
        }
    }

    /// Brings back the parked jobs of keys whose circuits are closed.
    func unpark() -> [Move] {
        [
            Move(Statement("select breakwater.unpark(1000)")) { result in
                self.note("unpark")
                var back = 0
                for index in self.units.indices where self.units[index].isKeyed {
                    for (id, circuit) in self.units[index].circuits where circuit.state.phase == .closed {
                        for job in self.units[index].parked(of: id.kind, key: id.key) {
                            self.units[index].jobs[job]?.place = .waiting
                            back += 1
                        }
                    }
                }
                try self.require(try result[0][0].int() == back, "unparked \(try result[0][0].int()), not \(back)")
            }
        ]
    }

    /// Overrides a circuit as a user would, or resets it.
    private func override(_ index: Int) -> [Move] {
        guard let id = units[index].circuits.keys.sorted().randomElement(using: &generator) else { return [] }
        // Most circuits are set back to normal, so that the test also sees the other actions.
        let override = chance(0.4) ? nil : CircuitOverride.allCases.randomElement(using: &generator)
        let function =
            switch override {
            case nil: "reset"
            case .open: "open"
            case .closed: "close"
            case .disabled: "disable"
            case .metricsOnly: "observe"
            }
        let duration: Duration? =
            override == nil || chance(0.1) ? nil : .milliseconds(Int.random(in: 1...5000, using: &generator))
        let until = override == nil ? "" : "until => breakwater.clock() + $3 * interval '1 microsecond', "
        let statement = Statement(
            "select breakwater.\(function)_circuit($1, 'because', \(until)actor => 'ann', key => $2)",
            [.text(id.kind), .text(id.key)] + (override == nil ? [] : [.int8(duration?.wholeMicroseconds)])
        )
        return [
            Move(statement) { _ in
                self.note("override \(id) \(function) \(duration.map { "\($0)" } ?? "")")
                self.tally.overrides += 1
                self.units[index].circuits[id]?.override(
                    override,
                    reason: "because",
                    actor: "ann",
                    until: duration.map { self.now + $0 },
                    at: self.now,
                    using: &self.generator
                )
            }
        ]
    }
}

extension CircuitCalls {
    fileprivate mutating func add(_ ending: FinishedRun.Ending, _ isRepeat: Bool) {
        if ending.isSuccess {
            succeeded += 1
            slowSucceeded += ending.isSlow ? 1 : 0
            return
        }
        failed += 1
        slowFailed += ending.isSlow ? 1 : 0
        repeats += isRepeat ? 1 : 0
        slowRepeats += isRepeat && ending.isSlow ? 1 : 0
        if ending.effect == .tripped { trip = max(trip ?? "", ending.failure?.name ?? "") }
        if let wait = ending.retryAfter { retryAfter = max(retryAfter ?? .zero, wait) }
    }
}

extension FinishedRun.Ending {
    fileprivate var summary: String { "\(outcomeClass)/\(effect.rawValue)\(isSlow ? "/slow" : "")" }
}
