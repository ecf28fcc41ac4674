import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

/// Long random sequences of events against a small model of the database. ``ConsumerWorld`` checks the rules.
@Suite("The consumer under random events")
struct ConsumerSimulationTests {
    @Test("keeps to its limits, starts nothing that it may not, and loses nothing", arguments: 0..<20)
    func random(number: Int) {
        let seed = testSeed &+ UInt64(number)
        var world = ConsumerWorld(seed: seed)
        for _ in 0..<5000 where world.fault == nil { world.step() }
        world.finish()
        #expect(world.fault == nil, "BREAKWATER_SEED=\(seed)")
        #expect(world.ended > 200, "BREAKWATER_SEED=\(seed)")
    }
}

/// A consumer, a model of the database whose answers are all that the consumer sees, and the events between the two.
private struct ConsumerWorld {
    private struct Held {
        var lease: Int64
        var isDurable = false
    }

    private struct Started {
        var start: HeldJobs.Start
        var isCancelled = false
    }

    private let concurrency = 6
    private let limits = ["a": 3, "b": 6]
    private var bench: ConsumerBench
    private var generator: SeededGenerator
    private var worker: Int64 = 1
    private var lastLease: Int64 = 0
    private var lastJob: Int64 = 0
    /// The waiting jobs, with their kinds.
    private var waiting: [(id: Int64, kind: String)] = []
    /// The jobs that this worker holds, as the database sees it.
    private var held: [Int64: Held] = [:]
    private var kinds: [Int64: String] = [:]
    /// The jobs of each claim that is not closed.
    private var claims: [Int64: Set<Int64>] = [:]
    /// The requests that were sent and not fully answered, oldest first.
    private var requests: [(id: Request.ID, work: Request.Work, isClaimAnswered: Bool)] = []
    private var running: [Int: Started] = [:]
    private var isConnected = false
    private var isDraining = false
    private var isStruckOff = false
    private var hasStopped = false
    private var lastBeat: MonotonicClock.Instant
    private var stopped: Set<String> = []
    /// Whether every run fails.
    private var isDown = false
    /// By kind, the failures in a row whose settles were not answered yet.
    private var streaks: [String: Int] = [:]
    /// Jobs for which even the last resort was refused. The database gives them back when the worker leaves.
    private var abandoned: Set<Int64> = []

    private(set) var ended = 0
    private(set) var fault: String?

    init(seed: UInt64) {
        generator = SeededGenerator(seed: seed)
        bench = ConsumerBench(concurrency: 6, kinds: ["a": 3, "b": nil], listens: seed % 2 == 0)
        lastBeat = bench.now
    }

    private mutating func roll(_ sides: Int) -> Int { Int.random(in: 0..<sides, using: &generator) }

    private mutating func fail(_ message: String) { fault = fault ?? message }

    mutating func step() {
        switch roll(25) {
        case 0..<3: enqueue()
        case 3..<11: answerOldest()
        case 11..<15: endRun()
        case 15..<17: pass(.milliseconds(roll(40)))
        case 17: pass(.milliseconds(roll(2000)))
        case 18: heartbeat()
        case 19: do { if !isConnected { connect() } else if roll(4) == 0 { disconnect() } }
        case 20: do { if roll(6) == 0 { strikeOff() } }
        case 21: handle(.woken(kind: ["a", "b", nil][roll(3)]))
        case 22: handle(.tick)
        case 23: do { if roll(10) == 0 { isDown.toggle() } }
        default: do { if roll(10) == 0 { stopped = roll(2) == 0 ? ["a"] : [] } }
        }
    }

    /// Shuts down and answers every request, until nothing is left.
    mutating func finish() {
        if !isConnected { connect() }
        isDraining = true
        handle(.drain)
        for _ in 0..<2000 where !hasStopped && fault == nil {
            if !isConnected { connect() }
            heartbeat()
            endRun()
            answerOldest()
            pass(.milliseconds(5))
        }
        guard fault == nil else { return }
        if !hasStopped { fail("does not stop: \(requests.map(\.work)), runs \(running.count)") }
        let lost = held.filter {
            $0.value.isDurable && claims[$0.value.lease] != nil && !abandoned.contains($0.key)
        }
        if !lost.isEmpty { fail("jobs \(lost.keys.sorted()) were claimed and neither settled nor released") }
    }

    // MARK: Events

    private mutating func enqueue() {
        let kind = roll(2) == 0 ? "a" : "b"
        for _ in 0...roll(8) {
            lastJob += 1
            kinds[lastJob] = kind
            waiting.append((lastJob, kind))
        }
        handle(.woken(kind: kind))
    }

    private mutating func pass(_ time: Duration) {
        bench.now += time
        handle(.tick)
    }

    private mutating func heartbeat() {
        guard !isStruckOff else {
            worker += 1
            isStruckOff = false
            lastBeat = bench.now
            return handle(.registered(worker: worker, sent: bench.now))
        }
        lastBeat = bench.now
        let stopped = Dictionary(uniqueKeysWithValues: stopped.map { ($0, Int64.max) })
        handle(.heartbeat(bench.answerToHeartbeat(stopped: stopped), sent: bench.now))
    }

    private mutating func connect() {
        isConnected = true
        handle(.connected)
    }

    private mutating func disconnect() {
        isConnected = false
        // Each request may or may not have reached the server.
        for request in requests where roll(2) == 0 {
            if case .exchange(_, let settle?) = request.work { settleInDatabase(settle) }
            if case .exchange(let claim?, _) = request.work, !request.isClaimAnswered { _ = claimInDatabase(claim) }
        }
        requests = []
        handle(.disconnected)
    }

    /// Gives this worker's jobs to other workers.
    private mutating func strikeOff() {
        giveBack { _ in true }
        isStruckOff = true
        streaks = [:]
        worker += 1000
        handle(.deregistered)
        if !running.values.allSatisfy(\.isCancelled) { fail("something runs on after the worker was struck off") }
    }

    private mutating func endRun() {
        guard let slot = running.keys.sorted().first(where: { _ in roll(3) == 0 }) ?? running.keys.min(),
            let started = running.removeValue(forKey: slot)
        else { return }
        var ending: FinishedRun.Ending?
        if isDown || roll(5) == 0 { ending = .failedCall }
        let kind = started.start.job.kind
        let (_, next, actions) = bench.consumer.ended(started.start, .init(), at: bench.now) {
            ending = $0 == nil ? ending : .released
            return ending
        }
        streaks[kind] = ending == nil ? 0 : streaks[kind, default: 0] + (ending == .failedCall ? 1 : 0)
        if let next { begin(next) }
        perform(actions)
    }

    private mutating func answerOldest() {
        guard isConnected, let first = requests.first else { return }
        switch first.work {
        case .exchange(let claim?, _) where !first.isClaimAnswered:
            requests[0].isClaimAnswered = true
            if roll(200) == 0 { return handle(.answered(first.id, .claimRefused(.refusal("54000")))) }
            let jobs = claimInDatabase(claim)
            return handle(.answered(first.id, .claimed(jobs)))
        case .exchange(_, let settle):
            requests.removeFirst()
            if settle != nil, roll(30) == 0 {
                return handle(.answered(first.id, .settleRefused(.refusal(["22021", "53100"][roll(2)]))))
            }
            if let settle { settleInDatabase(settle) }
            answerSettled(first.id, settle)
        case .settleAlone(let settle):
            requests.removeFirst()
            if roll(4) == 0 {
                for run in settle.runs where run.ending.outcomeClass == .snoozed {
                    abandoned.insert(run.id)
                    streaks[run.kind] = max(0, streaks[run.kind, default: 0] - 1)
                }
                return handle(.answered(first.id, .settleRefused(.refusal("22021"))))
            }
            settleInDatabase(settle)
            answerSettled(first.id, settle)
        case .reconcile(let reconcile):
            requests.removeFirst()
            if reconcile.worker == worker { giveBack { !reconcile.known.contains($0) } }
            handle(.answered(first.id, .reconciled(jobs: 0)))
        case .examine:
            requests.removeFirst()
            handle(.answered(first.id, .examined(unreadable: [])))
        case .sleep, .poll, .claimSuspects:
            requests.removeFirst()
            handle(.answered(first.id, .done))
        }
    }

    private mutating func answerSettled(_ id: Request.ID, _ settle: Settle?) {
        for job in held.keys { held[job]?.isDurable = true }
        let failures = settle?.runs.filter { !$0.isSuccess } ?? []
        for run in failures { streaks[run.kind] = max(0, streaks[run.kind, default: 0] - 1) }
        let stopped = failures.isEmpty ? [] : stopped
        handle(.answered(id, .settled(stopped: Dictionary(uniqueKeysWithValues: stopped.map { ($0, .max) }))))
    }

    // MARK: The database

    private mutating func claimInDatabase(_ claim: Claim) -> [ClaimedJob] {
        guard claim.worker == worker, !isStruckOff else { return [] }
        var room = Dictionary(uniqueKeysWithValues: claim.room.map { ($0.kind, $0.count) })
        let asked = Set(claim.lanes.filter { $0.priority == 5 }.map(\.kind))
        var jobs: [ClaimedJob] = []
        for kind in ["a", "b"] where asked.contains(kind) && !stopped.contains(kind) {
            var taken: [Int64] = []
            while jobs.count + taken.count < claim.total, room[kind, default: 0] > 0,
                let place = waiting.firstIndex(where: { $0.kind == kind })
            {
                room[kind, default: 0] -= 1
                taken.append(waiting.remove(at: place).id)
            }
            guard !taken.isEmpty else { continue }
            lastLease += 1
            claims[lastLease] = Set(taken)
            for id in taken { held[id] = Held(lease: lastLease) }
            jobs += bench.jobs(taken[0]...taken[0], kind: kind, lease: lastLease).prefix(0)
            jobs += taken.flatMap { bench.jobs($0...$0, kind: kind, lease: lastLease) }
        }
        return jobs
    }

    private mutating func settleInDatabase(_ settle: Settle) {
        if Set(settle.runs.map(\.id)).count < settle.runs.count { fail("a settle names a job twice") }
        for run in settle.runs where held[run.id]?.lease == run.lease {
            held[run.id] = nil
            claims[run.lease]?.remove(run.id)
            ended += 1
            if run.ending.outcomeClass == .released, let kind = kinds[run.id] { waiting.append((run.id, kind)) }
        }
        for lease in settle.claims {
            if claims[lease]?.isEmpty == false { fail("claim \(lease) is closed, and holds jobs") }
            claims[lease] = nil
        }
    }

    private mutating func giveBack(where isChosen: (Int64) -> Bool) {
        for (lease, jobs) in claims where isChosen(lease) {
            for id in jobs.sorted() where held[id]?.lease == lease {
                held[id] = nil
                if let kind = kinds[id] { waiting.append((id, kind)) }
            }
            claims[lease] = nil
        }
    }

    // MARK: Actions

    private mutating func handle(_ event: Consumer.Event) { perform(bench.handle(event)) }

    private mutating func perform(_ actions: [Consumer.Action]) {
        var reconnects = false
        for action in actions {
            switch action {
            case .send(let request): sent(request)
            case .start(let start): begin(start)
            case .cancel(let slots): for slot in slots { running[slot]?.isCancelled = true }
            case .reconnect: reconnects = true
            case .stop: hasStopped = true
            case .report(.gaveUp(let run)):
                if let slot = running.first(where: { $0.value.start.serial == run.serial })?.key { running[slot] = nil }
            case .wait, .report: break
            }
        }
        if reconnects, isConnected { disconnect() }
    }

    private mutating func sent(_ request: Request) {
        if !isConnected { fail("a request without a connection") }
        if hasStopped { fail("a request after the end") }
        requests.append((request.id, request.work, false))
        if requests.count > 2 { fail("three requests under way") }
        if requests.count == 2 {
            for request in requests {
                guard case .exchange = request.work else { return fail("\(request.work) is not alone") }
            }
        }
        if case .exchange(let claim?, _) = request.work {
            if isDraining { fail("claims while draining") }
            if isStruckOff { fail("claims without a lease") }
            if claim.room.contains(where: { $0.count < 1 }) { fail("asks for nothing") }
        }
    }

    private mutating func begin(_ start: HeldJobs.Start) {
        let job = start.job
        if running[start.slot] != nil { fail("two runs in slot \(start.slot)") }
        if isDraining { fail("starts job \(job.id) while draining") }
        if bench.now - lastBeat > .seconds(30) || isStruckOff { fail("starts job \(job.id) without a lease") }
        if let job = held[job.id], job.lease == start.job.lease, !job.isDurable {
            fail("starts job \(start.job.id) whose claim may be lost")
        }
        running[start.slot] = Started(start: start)
        if running.count > concurrency { fail("\(running.count) runs at once") }
        for (kind, limit) in limits where running.values.count(where: { $0.start.job.kind == kind }) > limit {
            fail("too many runs of \(kind)")
        }
        if streaks[job.kind, default: 0] >= 5 {
            fail("starts job \(job.id) while failures of its kind are not recorded")
        }
        if held[job.id]?.lease != job.lease { fail("starts job \(job.id), which it does not hold") }
    }
}
