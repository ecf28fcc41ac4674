@testable import Breakwater

/// One handler, or several that share a circuit. The model keeps its workers, its jobs and its circuits.
struct ModelUnit {
    struct CircuitID: Hashable, Comparable, CustomStringConvertible {
        var kind: String
        var key: String

        var description: String { "\(kind)[\(key)]" }

        static func < (left: CircuitID, right: CircuitID) -> Bool { (left.kind, left.key) < (right.kind, right.key) }
    }

    enum Place {
        /// The job is ready in its lane.
        case waiting
        /// The job is parked behind its key's circuit.
        case parked
        /// The job's worker was lost twice in a row. The job is out of its lane until a worker runs it apart from
        /// others.
        case suspect
        /// The job's worker was lost while it held this job alone. The quarantine outlasts the test.
        case accused
        /// A worker has claimed the job, under the lease that the job carries.
        case held(Job, worker: Int64)
    }

    struct ModelJob {
        var kind: String
        /// The key in the job's payload.
        var key: String
        var place = Place.waiting
        var attempt = 0
        var crashes = 0
        /// How many suspects may run together with the job, itself included.
        var group = 100
        /// When the job last failed, or found its dependency unavailable.
        var failedAt: Duration?
        /// Whether the job's history has any error.
        var hasErrors = false
        /// Whether the job has failed again although its dependency was up.
        var failsAlone = false
        /// How many failed runs as a probe were handed back.
        var handedBack = 0

        var isAccused: Bool { if case .accused = place { true } else { false } }

        /// Puts the job where it belongs when it is given back.
        mutating func returns() {
            place = crashes >= 3 ? .accused : crashes == 2 ? .suspect : .waiting
        }
    }

    /// How calls of the dependency end at the moment.
    enum Weather {
        case good, mixed, bad

        var failureRate: Double {
            switch self {
            case .good: 0.03
            case .mixed: 0.3
            case .bad: 0.9
            }
        }
    }

    static let probeLease = Duration.seconds(65)

    var kinds: [String]
    var keys: [String] = [""]
    var policy = CircuitPolicy()
    /// How many jobs exist at once.
    var population = 20
    var concurrency = 10
    var workerCount = 3

    var workers: [Int64] = []
    var jobs: [Int64: ModelJob] = [:]
    var circuits: [CircuitID: Circuit] = [:]
    var weather = Weather.good
    /// The number of unsettled jobs of each claim.
    var unsettled: [Int64: Int] = [:]
    /// Runs whose jobs were given to other workers, with the worker that ran them.
    var stale: [(job: Job, worker: Int64)] = []

    /// When a call of each circuit last succeeded, in any generation.
    var successes: [CircuitID: Duration] = [:]
    /// The jobs that were probes, by circuit, each with its round.
    var probed: [CircuitID: [(job: Int64, generation: Int64)]] = [:]
    /// Probes whose failures are not charged yet, in the order of their ends.
    var pending: [(job: Int64, circuit: CircuitID, generation: Int64)] = []
    /// The phase in which each generation of a circuit began.
    var phases: [CircuitID: [Int64: CircuitPhase]] = [:]

    var isKeyed: Bool {
        if case .path = policy.key { true } else { false }
    }

    func settings() -> HandlerSettings {
        var settings = HandlerSettings()
        settings.timeout = .seconds(5)
        settings.retry.maxAttempts = 1_000_000
        settings.retry.budget = nil
        settings.circuit = policy
        return settings
    }

    /// The circuit that gates a kind's lane.
    func gate(of kind: String) -> CircuitID {
        if case .shared(let name) = policy.key { return CircuitID(kind: "*", key: name) }
        return CircuitID(kind: kind, key: "")
    }

    /// The circuit that a job's call belongs to. It is the key's circuit, if the key has one.
    func circuit(of job: Job) -> CircuitID {
        let id = CircuitID(kind: job.kind, key: job.circuitKey)
        return isKeyed && circuits[id] != nil ? id : gate(of: job.kind)
    }

    /// The circuit that let a probe through.
    func circuitOfProbe(_ job: Job) -> CircuitID {
        isKeyed ? CircuitID(kind: job.kind, key: job.circuitKey) : gate(of: job.kind)
    }

    func held(by worker: Int64) -> [Job] {
        jobs.values.compactMap { job in
            if case .held(let claimed, worker) = job.place { claimed } else { nil }
        }.sorted { $0.id < $1.id }
    }

    func waiting(of kind: String) -> [Int64] {
        jobs.filter { if case .waiting = $0.value.place { $0.value.kind == kind } else { false } }.keys.sorted()
    }

    /// The suspects that may run now, each with the number of suspects that may run together with it.
    func hostable(at now: Duration) -> [Int64: Int] {
        jobs.compactMapValues { job in
            guard case .suspect = job.place else { return nil }
            let gates = [gate(of: job.kind), CircuitID(kind: job.kind, key: job.key)].compactMap { circuits[$0] }
            guard gates.allSatisfy({ $0.state.phase == .closed || $0.isHalfOpenAndIdle(at: now) }) else { return nil }
            return gates.contains { $0.state.phase == .halfOpen } ? 1 : job.group
        }
    }

    /// Whether a suspect is running.
    var hostsSuspect: Bool {
        jobs.values.contains { job in
            if case .held = job.place { job.crashes >= 2 } else { false }
        }
    }

    /// Whether the round that let a probe through has closed the circuit.
    func hasClosed(_ id: CircuitID, after generation: Int64) -> Bool { phases[id]?[generation + 1] == .closed }

    /// Whether a job was a probe in this round or in the one before it.
    func wasProbe(_ job: Int64, of id: CircuitID, lately generation: Int64) -> Bool {
        probed[id]?.contains { $0.job == job && $0.generation >= generation - 2 } ?? false
    }

    func parked(of kind: String, key: String) -> [Int64] {
        jobs.filter {
            if case .parked = $0.value.place { $0.value.kind == kind && $0.value.key == key } else { false }
        }.keys.sorted()
    }
}

extension ModelUnit {
    /// Units with policies of every sort.
    static func all() -> [ModelUnit] {
        func unit(_ kinds: [String], _ configure: (inout ModelUnit) -> Void) -> ModelUnit {
            var unit = ModelUnit(kinds: kinds)
            unit.policy.suspendsWorkers = false
            unit.policy.openFor = .seconds(2)
            unit.policy.openCap = .seconds(20)
            unit.policy.ramp = .zero
            configure(&unit)
            return unit
        }
        return [
            unit(["rate"]) {
                $0.policy.window = .time(.seconds(10))
                $0.policy.minimumCalls = 6
                $0.policy.consecutiveFailures = nil
                $0.policy.ramp = .seconds(5)
            },
            unit(["streak"]) {
                $0.policy.failureRate = nil
                $0.policy.consecutiveFailures = 4
                $0.policy.openFactor = 1000
                $0.policy.openFor = .seconds(1)
                $0.policy.successesToClose = 1
                $0.policy.probes = 1
                $0.policy.ramp = .seconds(3)
                $0.concurrency = 7
            },
            unit(["count"]) {
                $0.policy.window = .calls(10)
                $0.policy.minimumCalls = 5
                $0.policy.consecutiveFailures = nil
                $0.policy.probes = 2
                $0.policy.successesToClose = 5
            },
            unit(["count.slow"]) {
                $0.policy.window = .calls(8)
                $0.policy.minimumCalls = 8
                $0.policy.failureRate = 0.9
                $0.policy.slowCall = .seconds(1)
                $0.policy.slowRate = 0.5
                $0.policy.consecutiveFailures = 12
                $0.policy.halfOpenFor = .seconds(4)
            },
            unit(["time.slow"]) {
                $0.policy.window = .time(.seconds(3))
                $0.policy.minimumCalls = 3
                $0.policy.failureRate = 0.7
                $0.policy.slowCall = .seconds(1)
                $0.policy.slowRate = 0.4
                $0.policy.consecutiveFailures = 20
                $0.policy.successesToClose = 4
                $0.policy.probes = 4
            },
            unit(["trip"]) {
                $0.policy.minimumCalls = 1000
                $0.policy.tripOn = ["fatal"]
                $0.policy.honoursRetryAfter = true
                $0.policy.openFactor = 1.5
                $0.policy.halfOpenFor = .seconds(10)
            },
            unit(["keyed"]) {
                $0.keys = ["", "a", "b", "c"]
                $0.policy.key = .path(["host"])
                $0.policy.minimumCalls = 5
                $0.policy.consecutiveFailures = 3
                $0.policy.successesToClose = 2
                $0.policy.probes = 2
                $0.population = 40
                // This is more than there are jobs, because no rule says which of several keys gets the last slot.
                $0.concurrency = 1000
            },
            unit(["shared.1", "shared.2"]) {
                $0.policy.key = .shared("stripe")
                $0.policy.minimumCalls = 8
                $0.policy.window = .time(.seconds(30))
                $0.policy.successesToClose = 2
                $0.policy.ramp = .seconds(4)
            },
        ]
    }
}

extension Circuit {
    /// Whether the circuit waits for a probe, and no probe is running.
    fileprivate func isHalfOpenAndIdle(at now: Duration) -> Bool {
        state.phase == .halfOpen && liveProbes(at: now) == 0
    }
}
