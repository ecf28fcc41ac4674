@testable import Breakwater

/// One handler, or several that share a circuit, with its workers, its jobs and its circuits, as the model knows them.
struct ModelUnit {
    struct CircuitID: Hashable, Comparable, CustomStringConvertible {
        var kind: String
        var key: String

        var description: String { "\(kind)[\(key)]" }

        static func < (left: CircuitID, right: CircuitID) -> Bool { (left.kind, left.key) < (right.kind, right.key) }
    }

    enum Place {
        /// Ready, in its lane.
        case waiting
        /// Put aside behind its key's circuit.
        case parked
        /// Its worker was lost twice in a row: it is out of its lane until a worker runs it apart from others.
        case suspect
        /// Its worker was lost while it held this one alone. The hearing outlasts the test.
        case accused
        /// Claimed by a worker, under the lease that the job carries.
        case held(Job, worker: Int64)
    }

    struct ModelJob {
        var kind: String
        /// What its payload names as the key.
        var key: String
        var place = Place.waiting
        var attempt = 0
        var crashes = 0
        /// How many suspects at most it runs with.
        var group = 100
        /// When it last failed, or found its dependency unavailable.
        var failedAt: Duration?
        /// Whether any error is in its history.
        var hasErrors = false
        /// Whether it has failed again although its dependency was well.
        var failsAlone = false
        /// Failed runs as a probe that were handed back.
        var handedBack = 0

        var isAccused: Bool { if case .accused = place { true } else { false } }

        /// Where it goes when it is given back.
        mutating func returns() {
            place = crashes >= 3 ? .accused : crashes == 2 ? .suspect : .waiting
        }
    }

    /// How the calls of the dependency go at the moment.
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
    /// How many jobs there are at once.
    var population = 20
    var concurrency = 10
    var workerCount = 3

    var workers: [Int64] = []
    var jobs: [Int64: ModelJob] = [:]
    var circuits: [CircuitID: Circuit] = [:]
    var weather = Weather.good
    /// For each claim, how many of its jobs are not settled yet.
    var unsettled: [Int64: Int] = [:]
    /// Runs whose jobs were given to others, by the worker that ran them.
    var stale: [(job: Job, worker: Int64)] = []

    /// When a call of each circuit last succeeded, in any generation.
    var successes: [CircuitID: Duration] = [:]
    /// How probes ended: their jobs, by circuit and round.
    var probed: [CircuitID: [(job: Int64, generation: Int64)]] = [:]
    /// Probes whose failures are not charged yet, in the order of their ends.
    var pending: [(job: Int64, circuit: CircuitID, generation: Int64)] = []
    /// Where each generation of a circuit began.
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

    /// The circuit that a job's call belongs to: a key's, once it has one.
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

    /// Suspects that may run now, and how many at most with each.
    func hostable(at now: Duration) -> [Int64: Int] {
        jobs.compactMapValues { job in
            guard case .suspect = job.place else { return nil }
            let gates = [gate(of: job.kind), CircuitID(kind: job.kind, key: job.key)].compactMap { circuits[$0] }
            guard gates.allSatisfy({ $0.state.phase == .closed || $0.isHalfOpenAndIdle(at: now) }) else { return nil }
            return gates.contains { $0.state.phase == .halfOpen } ? 1 : job.group
        }
    }

    /// Whether some suspect runs.
    var hostsSuspect: Bool {
        jobs.values.contains { job in
            if case .held = job.place { job.crashes >= 2 } else { false }
        }
    }

    /// Whether the round that let a probe through has closed the circuit.
    func hasClosed(_ id: CircuitID, after generation: Int64) -> Bool { phases[id]?[generation + 1] == .closed }

    /// Whether a job was a probe in this round or in the one before.
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
    /// Policies of every sort.
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
                // More than there are jobs: nothing promises which of several keys gets the last slot.
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
    /// Whether it waits for a probe, and none is under way.
    fileprivate func isHalfOpenAndIdle(at now: Duration) -> Bool {
        state.phase == .halfOpen && liveProbes(at: now) == 0
    }
}
