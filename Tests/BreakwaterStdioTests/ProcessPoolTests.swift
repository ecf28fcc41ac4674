import Breakwater
import Glibc
import Testing

@testable import BreakwaterStdio

@Suite("The pool's decisions") struct ProcessPoolTests {
    private typealias Action = ProcessPool.Action

    private func pool(_ change: (inout StdioSettings) -> Void = { _ in }) -> ProcessPool {
        var settings = StdioSettings()
        change(&settings)
        return ProcessPool(settings, name: "handler")
    }

    private let now = ContinuousClock.now

    /// The runs that were sent, with the place that they were sent to.
    private func sent(_ actions: [Action]) -> [String] {
        actions.compactMap { action in
            guard case .write(let place, let line) = action else { return nil }
            let text = String(decoding: line, as: UTF8.self)
            return text.hasPrefix("run") ? "\(text)>\(place)" : nil
        }
    }

    private func submit(_ runs: ClosedRange<UInt64>, to pool: inout ProcessPool) {
        for run in runs { pool.submit(run, Array("run\(run)".utf8), at: now) }
    }

    @Test("jobs wait for a process, and go to the least busy one; those ahead come last")
    func spread() {
        var pool = pool {
            $0.processes = 2
            $0.jobs = 2
            $0.ahead = 1
        }
        submit(1...8, to: &pool)
        #expect(pool.takeActions().count { if case .start = $0 { true } else { false } } == 2)
        pool.received(.hello(.init(jobs: 2)), from: 0, at: now)
        #expect(sent(pool.takeActions()) == ["run1>0", "run2>0", "run3>0"])
        pool.received(.hello(.init(jobs: 9)), from: 1, at: now)
        #expect(sent(pool.takeActions()) == ["run4>1", "run5>1", "run6>1"])
        pool.received(.result(run: 5, .succeeded()), from: 1, at: now)
        #expect(sent(pool.takeActions()) == ["run7>1"])
    }

    @Test("a process that says it runs one job gets one, and those ahead")
    func fewer() {
        var pool = pool {
            $0.jobs = 10
            $0.ahead = 1
        }
        submit(1...5, to: &pool)
        pool.received(.hello(.init(jobs: 1)), from: 0, at: now)
        #expect(sent(pool.takeActions()) == ["run1>0", "run2>0"])
    }

    @Test("the pauses between starts grow to a second while processes answer nothing")
    func pauses() {
        var pool = pool()
        pool.start(at: now)
        var time = now
        var pauses: [Duration] = []
        for _ in 0..<8 {
            _ = pool.takeActions()
            pool.received(.hello(.init(jobs: 1)), from: 0, at: time)
            pool.exited(0, JobFailure("exit.1", ""), tail: "", at: time)
            let next = pool.nextDeadline ?? time
            pauses.append(next - time)
            pool.tick(at: next)
            time = next
        }
        #expect(Array(pauses.prefix(5)) == [50, 100, 200, 400, 800].map { Duration.milliseconds($0) })
        #expect(pauses.dropFirst(5).allSatisfy { $0 == .seconds(1) })
    }

    @Test("a pool whose start failed tries again when a job needs it, and not before")
    func failedStart() {
        var pool = pool { $0.processes = 3 }
        pool.start(at: now)
        for place in 0..<3 { pool.startFailed(place, JobFailure("worker.EMFILE", ""), at: now) }
        _ = pool.takeActions()
        pool.tick(at: now + .seconds(60))
        #expect(pool.takeActions() == [] && pool.nextDeadline == nil)
        pool.submit(1, [], at: now + .seconds(60))
        #expect(pool.takeActions().contains(.start(0)))
        pool.startFailed(0, JobFailure("worker.EMFILE", "no files"), at: now + .seconds(60))
        #expect(pool.takeActions().contains(.finish(1, .outcome(.unable(JobFailure("worker.EMFILE", "no files"))))))
    }

    private func starts(_ pool: inout ProcessPool) -> Int {
        pool.takeActions().count { if case .start = $0 { true } else { false } }
    }

    /// A pool of two processes whose first is ready, and whose second could not be started.
    private func halfStarted(_ change: (inout StdioSettings) -> Void = { _ in }) -> ProcessPool {
        var pool = pool {
            $0.processes = 2
            change(&$0)
        }
        pool.start(at: now)
        pool.received(.hello(.init(jobs: 1)), from: 0, at: now)
        pool.startFailed(1, JobFailure("worker.EMFILE", ""), at: now)
        _ = pool.takeActions()
        return pool
    }

    @Test("a job that comes in the pause after a failed start does not wait for it")
    func failedStartPause() {
        var pool = pool()
        pool.start(at: now)
        pool.startFailed(0, JobFailure("worker.EMFILE", ""), at: now)
        _ = pool.takeActions()
        pool.submit(1, [], at: now)
        #expect(pool.takeActions() == [.finish(1, .outcome(.unable(JobFailure("worker.EMFILE", ""))))])
    }

    @Test("after a failed start, a job that waits starts one more process, though others run")
    func growsAgain() {
        var pool = halfStarted()
        submit(1...1, to: &pool)
        #expect(pool.nextDeadline == nil, "the first process has the only job")
        submit(2...2, to: &pool)
        #expect(starts(&pool) == 0, "the pause is not over")
        let next = now + .milliseconds(50)
        #expect(pool.nextDeadline == next)
        pool.tick(at: next)
        #expect(starts(&pool) == 1)
        #expect(pool.nextDeadline == next + .seconds(30), "the start is awaited; nothing else is due")
        pool.received(.hello(.init(jobs: 1)), from: 1, at: next)
        #expect(sent(pool.takeActions()) == ["run2>1"])
        submit(3...9, to: &pool)
        #expect(starts(&pool) == 0, "there are as many as configured")
    }

    @Test("after a failed start, a process is replaced, also when no job waits")
    func replacesAgain() {
        var pool = halfStarted { $0.recycle.jobs = 1 }
        submit(1...1, to: &pool)
        pool.received(.result(run: 1, .succeeded()), from: 0, at: now)
        let next = now + .milliseconds(50)
        #expect(pool.nextDeadline == next)
        _ = pool.takeActions()
        pool.tick(at: next)
        #expect(pool.takeActions().contains(.start(1)))
        pool.received(.hello(.init(jobs: 1)), from: 1, at: next)
        // There are two processes now, and one more is to replace the first.
        #expect(pool.takeActions().contains(.start(2)))
        pool.received(.hello(.init(jobs: 1)), from: 2, at: next)
        #expect(pool.takeActions().contains(.closeInput(0)))
    }

    @Test("a process that is to end is told so after its last run, which can be cancelled until then")
    func cancelledWhileDraining() {
        var pool = pool { $0.jobs = 2 }
        submit(1...2, to: &pool)
        pool.received(.hello(.init(jobs: 2, cancels: true)), from: 0, at: now)
        pool.received(.drain, from: 0, at: now)
        #expect(!pool.takeActions().contains(.closeInput(0)))
        pool.cancel(1, at: now)
        #expect(pool.takeActions().contains(.write(0, WorkerMessage.cancel(1))))
        pool.received(.result(run: 1, .released), from: 0, at: now)
        #expect(!pool.takeActions().contains(.closeInput(0)))
        pool.received(.result(run: 2, .succeeded()), from: 0, at: now)
        let actions = pool.takeActions()
        #expect(actions.contains(.write(0, WorkerMessage.drain)) && actions.contains(.closeInput(0)))
        pool.tick(at: now + pool.settings.killAfter)
        #expect(pool.takeActions().contains(.signal(0, SIGTERM)))
    }

    @Test("a worker that stops tells a process to end that waits for its last run")
    func stoppedWhileDraining() {
        var pool = pool()
        submit(1...1, to: &pool)
        pool.received(.hello(.init(jobs: 1)), from: 0, at: now)
        pool.received(.drain, from: 0, at: now)
        _ = pool.takeActions()
        pool.stop(at: now)
        #expect(pool.takeActions() == [.write(0, WorkerMessage.drain), .closeInput(0)])
    }

    @Test("processes that ask to end before they have answered a job do not pile up")
    func asksAtOnce() {
        var pool = pool()
        submit(1...1, to: &pool)
        var place = 0
        var starts = 0
        for _ in 0..<20 {
            for case .start(let started) in pool.takeActions() {
                place = started
                starts += 1
            }
            pool.received(.hello(.init(jobs: 1)), from: place, at: now)
            pool.received(.drain, from: place, at: now)
        }
        #expect(starts < 3)
    }

    @Test("a handler that reports once for each job may do so for ever")
    func reportsForEachJob() {
        var pool = pool()
        pool.start(at: now)
        pool.received(.hello(.init(jobs: 1)), from: 0, at: now)
        for run in 1...UInt64(3 * ProcessPool.messageBurst) {
            let time = now + .milliseconds(Int(run))
            pool.submit(run, [], at: time)
            pool.received(.progress(run: run, fraction: 0.5, note: nil), from: 0, at: time)
            pool.received(.result(run: run, .succeeded()), from: 0, at: time + .milliseconds(1))
        }
        #expect(pool.places[0]?.isReady == true)
    }

    @Test(
        "whatever happens, each job ends once, no process gets more than it may, and the pool stops",
        arguments: 0..<20
    )
    func random(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var settings = StdioSettings()
        settings.processes = .random(in: 1...3, using: &generator)
        settings.jobs = .random(in: 1...3, using: &generator)
        settings.ahead = .random(in: 0...2, using: &generator)
        if Bool.random(using: &generator) { settings.recycle.jobs = .random(in: 1...5, using: &generator) }
        if Bool.random(using: &generator) { settings.recycle.age = .seconds(2) }
        var model = PoolModel(settings, now)
        for _ in 0..<2000 { model.step(using: &generator) }
        model.recover()
        model.stop()
        #expect(model.faults == [], "seed \(seed)")
    }
}

/// Processes and jobs around a pool, which do what they may.
private struct PoolModel {
    private var pool: ProcessPool
    private var now: ContinuousClock.Instant
    private let settings: StdioSettings
    private var lastRun: UInt64 = 0
    private var open: Set<UInt64> = []
    /// What each process has been sent and has not answered; nil where there is no process.
    private var processes: [[UInt64]?] = []
    private var hasGreeted: [Bool] = []
    private var hasStopped = false
    private(set) var faults: [String] = []

    init(_ settings: StdioSettings, _ now: ContinuousClock.Instant) {
        self.settings = settings
        self.now = now
        pool = ProcessPool(settings, name: "handler")
        pool.start(at: now)
        perform()
    }

    mutating func step(using generator: inout SeededGenerator) {
        let place = processes.indices.filter { processes[$0] != nil }.randomElement(using: &generator)
        switch Int.random(in: 0..<100, using: &generator) {
        case 0..<30:
            lastRun += 1
            open.insert(lastRun)
            pool.submit(lastRun, Array("run\(lastRun)".utf8), at: now)
        case 30..<35:
            if let run = open.randomElement(using: &generator) { pool.cancel(run, at: now) }
        case 35..<75:
            guard let place else { break }
            if !hasGreeted[place] {
                hasGreeted[place] = true
                let jobs = Int.random(in: 1...4, using: &generator)
                pool.received(.hello(.init(jobs: jobs, cancels: Bool.random(using: &generator))), from: place, at: now)
            } else if let run = processes[place]?.prefix(settings.jobs).randomElement(using: &generator) {
                processes[place]?.removeAll { $0 == run }
                pool.received(.result(run: run, .succeeded()), from: place, at: now)
            }
        case 75..<80:
            guard let place else { break }
            if hasGreeted[place] || Bool.random(using: &generator) {
                exit(place)
            } else {
                processes[place] = nil
                pool.startFailed(place, JobFailure("worker.EMFILE", ""), at: now)
            }
        case 80..<82:
            if let place, hasGreeted[place] { pool.received(.drain, from: place, at: now) }
        case 82..<84:
            if let place { pool.broke(place, "it may", at: now) }
        default:
            now += .milliseconds(Int.random(in: 0..<500, using: &generator))
            tick()
        }
        perform()
    }

    private mutating func tick() {
        pool.tick(at: now)
        if let next = pool.nextDeadline, next <= now { faults.append("the thread of the pool would not wait") }
    }

    /// Lets all processes start and answer, until no job is left.
    mutating func recover() {
        for _ in 0..<10_000 where !open.isEmpty {
            for place in processes.indices where processes[place] != nil {
                if !hasGreeted[place] {
                    hasGreeted[place] = true
                    pool.received(.hello(.init(jobs: 1)), from: place, at: now)
                } else if let run = processes[place]?.first {
                    processes[place]?.removeFirst()
                    pool.received(.result(run: run, .succeeded()), from: place, at: now)
                }
                perform()
            }
            now += .milliseconds(100)
            tick()
            perform()
        }
        if !open.isEmpty { faults.append("\(open.count) jobs wait for ever") }
    }

    mutating func stop() {
        pool.stop(at: now)
        perform()
        for _ in 0..<100 where !hasStopped {
            now += .seconds(10)
            pool.tick(at: now)
            perform()
        }
        if !hasStopped { faults.append("it did not stop") }
        if !open.isEmpty { faults.append("\(open.count) jobs did not end") }
        if !pool.runs.isEmpty { faults.append("\(pool.runs.count) runs are left") }
    }

    private mutating func exit(_ place: Int) {
        processes[place] = nil
        pool.exited(place, JobFailure("exit.1", "it exited"), tail: "", at: now)
    }

    private mutating func perform() {
        var killed: [Int] = []
        for action in pool.takeActions() {
            switch action {
            case .start(let place):
                while processes.count <= place {
                    processes.append(nil)
                    hasGreeted.append(false)
                }
                if processes[place] != nil { faults.append("a place was used twice") }
                processes[place] = []
                hasGreeted[place] = false
            case .write(let place, let line):
                let text = String(decoding: line, as: UTF8.self)
                guard text.hasPrefix("run"), let run = UInt64(text.dropFirst(3)) else { continue }
                if !hasGreeted[place] { faults.append("a job was sent before the hello") }
                processes[place]?.append(run)
                if processes[place]?.count ?? 0 > settings.jobs + settings.ahead { faults.append("too many jobs") }
            case .finish(let run, _):
                if open.remove(run) == nil { faults.append("run \(run) ended twice") }
            case .signal(let place, SIGKILL): killed.append(place)
            case .stopped: hasStopped = true
            case .closeInput, .signal, .progress, .checkpoint, .warn, .info: break
            }
        }
        let most = settings.processes + 1
        let live = pool.places.count { $0.map { $0.isReady || $0.isStarting } ?? false }
        if live > most { faults.append("there are \(live) processes") }
        for place in killed where processes[place] != nil { exit(place) }
        if !killed.isEmpty { perform() }
    }
}

/// A small random number generator whose sequence its seed determines.
private struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed &+ 0x9E37_79B9_7F4A_7C15 }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
