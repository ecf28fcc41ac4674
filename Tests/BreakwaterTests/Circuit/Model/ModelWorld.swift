import BreakwaterTesting
import Libpq

@testable import Breakwater

/// A database and its model. Each action goes to both, and both must agree.
///
/// A round moves the clock, lets time make its transitions, makes one random action for each unit, and then compares
/// the whole state of the circuits. It takes one round trip.
final class ModelWorld {
    struct Disagreement: Error, CustomStringConvertible {
        var description: String
    }

    /// A statement, and the function that checks its answer.
    struct Move {
        var statement: Statement
        var check: (QueryResult) throws -> Void

        init(_ statement: Statement, _ check: @escaping (QueryResult) throws -> Void = { _ in }) {
            self.statement = statement
            self.check = check
        }

        init<Call: StoreCall>(_ call: Call, _ check: @escaping (Call.Output) throws -> Void) {
            self.init(call.statement) { try check(call.decode($0)) }
        }
    }

    /// Counts of events, to show whether the test saw enough of them.
    struct Tally {
        var steps = 0
        var claimed = 0
        var probes = 0
        var settled = 0
        var stale = 0
        var crashes = 0
        var hosted = 0
        var overrides = 0
        var repeats = 0
        var charged = 0
        var transitions: [String: Int] = [:]
    }

    let connection: Connection
    let options: ConnectionOptions
    var generator: SeededGenerator
    /// The time since the beginning of 2030, in whole microseconds.
    var now = Duration.seconds(1)
    var units = ModelUnit.all()
    var tally = Tally()
    var lastTransition: Int64 = 0
    /// The Retry-After with which a circuit was opened in this round.
    var retryAfter: [ModelUnit.CircuitID: Duration] = [:]
    private var log: [String] = []

    init(_ database: TestDatabase, seed: UInt64) async throws {
        connection = try await database.connect()
        options = database.options
        generator = SeededGenerator(seed: seed)
        for index in units.indices {
            units[index].workers = Array(repeating: 0, count: units[index].workerCount)
            for slot in 0..<units[index].workerCount { try await run(stage() + [register(index, slot: slot)]) }
            for kind in units[index].kinds {
                let id = units[index].gate(of: kind)
                units[index].circuits[id] = Circuit(policy: units[index].policy, now: now, checksFirst: true)
            }
        }
    }

    // MARK: Rounds

    /// Makes one round, with a step for each unit.
    func round() async throws {
        now += step()
        var moves = stage()
        if chance(0.3) { moves.append(turn()) }
        if chance(0.2) { moves += unpark() }
        if chance(0.2) { moves.append(charge()) }
        for index in units.indices {
            if chance(0.02) { units[index].weather = [.good, .mixed, .bad].randomElement(using: &generator) ?? .good }
            moves += insert(index)
            moves += act(index)
            tally.steps += 1
        }
        moves += comparison()
        do {
            try await run(moves)
        } catch {
            throw Disagreement(description: "\(error)\nat \(now), after:\n\(log.suffix(60).joined(separator: "\n"))")
        }
        retryAfter = [:]
    }

    func note(_ line: @autoclosure () -> String) {
        if log.count > 400 { log.removeFirst(200) }
        log.append(line())
    }

    private func run(_ moves: [Move]) async throws {
        let results = try await connection.pipeline(moves.map(\.statement))
        for (move, result) in zip(moves, results) { try move.check(result) }
    }

    func chance(_ probability: Double) -> Bool { Double.random(in: 0..<1, using: &generator) < probability }

    func require(_ holds: Bool, _ what: @autoclosure () throws -> String) throws {
        if !holds { throw Disagreement(description: try what()) }
    }

    /// Returns how far the clock moves: usually a little, sometimes to a time just before or just after something is
    /// due.
    private func step() -> Duration {
        let due = units.flatMap { unit in
            unit.circuits.sorted { $0.key < $1.key }.map(\.value).compactMap { circuit -> Duration? in
                if let until = circuit.hold?.until { return until }
                switch circuit.state {
                case .open(let retryAt): return retryAt
                case .closed(let ramp): return ramp?.until
                case .halfOpen: return unit.policy.halfOpenFor.map { circuit.since + $0 }
                }
            }
        }
        switch Int.random(in: 0..<100, using: &generator) {
        case 0..<60: return .microseconds(Int.random(in: 1...400_000, using: &generator))
        case 60..<70: return .microseconds(1)
        case 70..<80: return .microseconds(Int.random(in: 1_000_000...5_000_000, using: &generator))
        case 80..<98:
            guard let next = due.filter({ $0 > now + .microseconds(1) }).randomElement(using: &generator) else {
                return .milliseconds(1)
            }
            return next - now - (chance(0.3) ? .microseconds(1) : .zero)
        default: return .seconds(70)
        }
    }

    /// Sets the database's clock for the transaction, and its random seed, so that its jitter depends on the test's
    /// seed. Each transaction sets both, because a pooler may run it in another session than the last one.
    private func stage() -> [Move] {
        let clock = Statement(
            """
            select set_config('breakwater.clock',
                              ('2030-01-01 00:00:00+00'::timestamptz + $1 * interval '1 microsecond')::text, true)
            """,
            [.int8(now.wholeMicroseconds)]
        )
        let chance = Statement("select setseed($1)", [.float8(Double.random(in: 0..<1, using: &generator))])
        return [Move(clock), Move(chance)]
    }

    // MARK: Workers and jobs

    func register(_ index: Int, slot: Int) -> Move {
        let unit = units[index]
        let nothing = ClosureHandler { _, _ in .succeeded() }
        var configuration = WorkerConfiguration(
            database: options,
            handlers: unit.kinds.map { HandlerRegistration(kind: $0, plugin: nothing, settings: unit.settings()) },
            name: "model"
        )
        configuration.lease = .seconds(86_400)
        return Move(Register(configuration: configuration)) { self.units[index].workers[slot] = $0 }
    }

    private func insert(_ index: Int) -> [Move] {
        let missing = units[index].population - units[index].jobs.values.count { !$0.isAccused }
        guard missing > 0 else { return [] }
        return (0..<missing).map { _ in
            let kind = units[index].kinds.randomElement(using: &generator) ?? ""
            let key = units[index].keys.randomElement(using: &generator) ?? ""
            return Move(
                Statement(
                    """
                    insert into breakwater.job (kind, payload)
                    values ($1, case $2 when '' then '{}' else jsonb_build_object('host', $2::text) end) returning id
                    """,
                    [.text(kind), .text(key)]
                )
            ) { self.units[index].jobs[try $0[0][0].int64()] = ModelUnit.ModelJob(kind: kind, key: key) }
        }
    }
}

extension Duration {
    var wholeMicroseconds: Int64 { Int64(attoseconds / 1_000_000_000_000) }
}
