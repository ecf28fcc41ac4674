import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

/// The consumer's decisions, with a clock that the test sets and without a server.
@Suite("The consumer")
struct ConsumerTests {
    @Test("gives back claims that it never received before it claims anything")
    func reconcilesFirst() throws {
        var bench = ConsumerBench()
        #expect(bench.handle(.connected).isReconciling)
        let actions = bench.answer(.reconciled(jobs: 0))
        let claim = try #require(actions.claim)
        #expect(claim.isWide && claim.isLate)
        #expect(claim.total == 10)
    }

    @Test("starts nothing before the settle or flush after the claim was answered")
    func waitsForTheDisk() {
        var bench = ConsumerBench.connected()
        #expect(bench.answer(.claimed(bench.jobs(1...3))).starts.isEmpty)
        #expect(bench.answer(.settled()).starts.map(\.job.id) == [1, 2, 3])
    }

    @Test("drops what was claimed and not made durable when the connection is lost")
    func dropsUnconfirmed() {
        var bench = ConsumerBench.connected()
        bench.answer(.claimed(bench.jobs(1...3)))
        bench.handle(.disconnected)
        #expect(bench.handle(.connected).known == [])
        #expect(bench.consumer.held.isEmpty)
    }

    @Test("settles again what was in flight when the connection was lost")
    func settlesAgain() {
        var bench = ConsumerBench.connected()
        let runs = bench.start(1...2)
        bench.end(runs)
        bench.handle(.disconnected)
        bench.handle(.connected)
        #expect(bench.answer(.reconciled(jobs: 0)).settle?.runs.map(\.id).sorted() == [1, 2])
    }

    @Test("a settle that was refused leaves the jobs claimed beside it to the next commit")
    func confirmsLater() {
        var bench = ConsumerBench.connected()
        let runs = bench.start(1...1)
        #expect(bench.end(runs).settle?.runs.count == 1)
        bench.answer(.claimed(bench.jobs(2...2, lease: 2)))
        let refused = bench.answer(.settleRefused(.refusal("22021")))
        #expect(refused.starts.isEmpty)
        #expect(refused.settledAlone == 1)
        #expect(bench.answer(.settled()).starts.map(\.job.id) == [2])
    }

    @Test("finds the run at fault in a refused batch, and settles the others as they are")
    func isolates() {
        var bench = ConsumerBench.connected()
        let runs = bench.start(1...3)
        bench.end(runs)
        bench.answer(.claimed([]))
        // The first run to end was settled alone. The other two were settled together.
        bench.answer(.settled())
        bench.answer(.claimed([]))
        #expect(bench.answer(.settleRefused(.refusal("22021"))).settledAlone == 2)
        #expect(bench.answer(.settled()).settledAlone == 3)
        // The run is settled as a failure that says why, then as a snooze, and then not at all.
        #expect(bench.answer(.settleRefused(.refusal("22021"))).settle?.runs[0].ending.failure?.name == "unstorable")
        #expect(bench.answer(.settleRefused(.refusal("22021"))).settle?.runs[0].ending.outcomeClass == .snoozed)
        bench.answer(.settleRefused(.refusal("22021")))
        #expect(bench.consumer.isolation == nil)
        #expect(bench.consumer.held.isEmpty)
    }

    @Test("tries a settle again over a new connection if the reason may be temporary")
    func reconnectsFirst() {
        var bench = ConsumerBench.connected()
        bench.end(bench.start(1...1))
        bench.answer(.claimed([]))
        #expect(bench.answer(.settleRefused(.refusal("53100"))).reconnects)
        #expect(bench.consumer.held.finishedCount == 1)
    }

    @Test("three quarters of the lease after the last heartbeat it cancels what runs and starts nothing more")
    func losesItsLease() {
        var bench = ConsumerBench.connected(concurrency: 1)
        let runs = bench.start(1...2)
        #expect(runs.map(\.job.id) == [1])
        bench.now += .seconds(30)
        #expect(!bench.handle(.tick).cancels)
        bench.now += .milliseconds(2)
        #expect(bench.handle(.tick).cancels)
        #expect(bench.end(runs, .released).starts.isEmpty)
        #expect(bench.consumer.held.runningCount == 0)
        bench.handle(.heartbeat(bench.answerToHeartbeat(), sent: bench.now))
        #expect(bench.consumer.lease.isHeld)
    }

    @Test("a run whose task got its thread too late, or after it was cancelled, does not begin")
    func lateBeginning() throws {
        var bench = ConsumerBench.connected()
        let run = try #require(bench.start(1...1).first)
        #expect(bench.consumer.mayBegin(run, at: bench.now + .seconds(29)))
        #expect(!bench.consumer.mayBegin(run, at: bench.now + .seconds(31)))
        bench.handle(.deregistered)
        #expect(!bench.consumer.mayBegin(run, at: bench.now))
    }

    @Test("struck off, it forgets its claims and ignores answers to requests under its old number")
    func deregistered() {
        var bench = ConsumerBench.connected()
        let runs = bench.start(1...2)
        #expect(bench.handle(.deregistered).cancels)
        bench.end(runs, .released)
        #expect(bench.consumer.held.isEmpty)
        bench.handle(.registered(worker: 2, sent: bench.now))
        bench.answer(.settled())
        #expect(bench.lastRequestWorker == 2)
    }

    @Test("starts no job of a stopped kind that was claimed before, but starts those that are claimed later")
    func stops() {
        var bench = ConsumerBench.connected()
        bench.answer(.claimed(bench.jobs(1...2)))
        bench.now += .milliseconds(1)
        bench.handle(.heartbeat(bench.answerToHeartbeat(stopped: ["k": .max]), sent: bench.now))
        let actions = bench.answer(.settled())
        #expect(actions.starts.isEmpty)
        #expect(actions.settle?.runs.map(\.ending.outcomeClass) == [.released, .released])
        bench.now += .milliseconds(1)
        bench.answer(.claimed([]))
        bench.answer(.settled())
        bench.handle(.woken(kind: "k"))
        bench.answer(.claimed(bench.jobs(3...3, lease: 3)))
        #expect(bench.answer(.settled()).starts.map(\.job.id) == [3])
    }

    @Test("after five failures in a row, the kind's jobs wait until those are recorded; other kinds go on")
    func awaitsVerdict() {
        var bench = ConsumerBench(concurrency: 5, kinds: ["k": 4, "other": nil])
        bench.handle(.connected)
        bench.answer(.reconciled(jobs: 0))
        bench.answer(.claimed(bench.jobs(1...12) + bench.jobs(21...24, kind: "other", lease: 2)))
        let first = bench.answer(.settled()).starts
        #expect(first.map(\.job.id) == [1, 2, 3, 4, 21])
        // The runs that end before the fifth has failed make room for other jobs of the kind.
        var running = first
        var started: [Int64] = []
        while !running.isEmpty {
            let run = running.removeFirst()
            let next = bench.end([run], run.job.kind == "k" ? .failedCall : nil).starts
            running += next
            started += next.map(\.job.id)
        }
        #expect(Set(started) == [5, 6, 7, 8, 22, 23, 24])
        // The first failure was settled by itself, as soon as it arrived. Seven unrecorded failures are still too many.
        let actions = bench.answer(.settled())
        #expect(actions.starts.isEmpty)
        #expect(actions.settle?.runs.count { $0.kind == "k" } == 7)
        #expect(actions.claim?.room.map(\.kind).contains("k") != true)
        if actions.claim != nil { bench.answer(.claimed([])) }
        #expect(bench.answer(.settled()).starts.map(\.job.id) == [9, 10, 11, 12])
    }

    @Test("if a settle's failures open a circuit, the answer to that settle stops the kind")
    func verdict() {
        var bench = ConsumerBench.connected(concurrency: 5)
        bench.failNine()
        #expect(bench.answer(.settled()).settle?.runs.count == 8)
        let actions = bench.answer(.settled(stopped: ["k": 2]))
        #expect(actions.starts.isEmpty)
        #expect(actions.settle?.runs.map(\.ending.outcomeClass) == Array(repeating: .released, count: 11))
    }

    @Test("a claim that reached its limit of bytes has not emptied its lanes")
    func bytes() {
        var bench = ConsumerBench.connected()
        var jobs = bench.jobs(1...2)
        for place in jobs.indices {
            jobs[place].job.payload = String(repeating: "x", count: HeldJobs.mostBytesAClaim / 2)
        }
        bench.answer(.claimed(jobs))
        let actions = bench.answer(.settled())
        #expect(actions.starts.count == 2)
        // The next claim asks for few jobs, and for all the bytes that the worker may still hold.
        #expect(actions.claim?.total == 4)
        #expect(actions.claim?.bytes == HeldJobs.mostBytesAClaim)
        #expect(bench.consumer.held.payloadBytes == HeldJobs.mostBytesAClaim)
        bench.end(actions.starts)
        #expect(bench.consumer.held.payloadBytes == 0)
    }

    @Test("after a refused claim, the next asks for half as many, and the jobs of the refused one are examined singly")
    func refusedClaim() {
        var bench = ConsumerBench.connected()
        let first = bench.inFlightClaim
        #expect(bench.answer(.claimRefused(.refusal("54000"))).reconnects)
        bench.handle(.disconnected)
        bench.handle(.connected)
        let examination = bench.answer(.reconciled(jobs: 0)).examination
        #expect(examination?.lanes == first?.lanes)
        let actions = bench.answer(.examined(unreadable: [7]))
        #expect(actions.unreadable == [7])
        #expect(actions.claim?.total == (first?.total ?? 0) / 2)
    }

    @Test("a success between failures, or a failure that the circuit does not count, delays nothing")
    func noStreak() {
        var bench = ConsumerBench.connected(concurrency: 1)
        var run = bench.start(1...20)
        bench.answer(.claimed([]))
        let endings: [FinishedRun.Ending?] = [
            .failedCall, .failedCall, .failedCall, .failedCall, nil, .failedCall, .released,
        ]
        for ending in endings {
            #expect(run.count == 1)
            run = bench.end(run, ending).starts
        }
        #expect(run.count == 1)
    }

    @Test("a probe of a later generation starts although its kind is known as stopped")
    func probes() {
        var bench = ConsumerBench.connected()
        var probe = bench.jobs(1...1)
        probe[0].job.generation = 6
        bench.answer(.claimed(probe))
        bench.now += .milliseconds(1)
        bench.handle(.heartbeat(bench.answerToHeartbeat(stopped: ["k": 5]), sent: bench.now))
        #expect(bench.answer(.settled()).starts.count == 1)
    }

    @Test("draining releases what has not started, lets the rest end, and stops when nothing is left")
    func drains() {
        var bench = ConsumerBench.connected(concurrency: 1)
        let runs = bench.start(1...2)
        let draining = bench.handle(.drain)
        #expect(draining.settle?.runs.map(\.ending.outcomeClass) == [.released])
        #expect(draining.claim == nil)
        bench.answer(.settled())
        #expect(bench.end(runs).settle?.claims == [1])
        #expect(bench.answer(.settled()).stops)
    }

    @Test("does not ask to be called again at once while it can send nothing", arguments: [false, true])
    func rests(isConnected: Bool) {
        // The consumer has no connection, or has no answer to its first claim.
        var bench = isConnected ? ConsumerBench.connected() : ConsumerBench()
        // The consumer's next poll is long due.
        bench.now += .seconds(10)
        #expect(bench.handle(.tick).waitsUntil == bench.now + .seconds(1))
    }

    @Test("a claim cut off after five silent seconds is followed by an examination, and so is an examination cut off")
    func examinesAfterSilence() {
        var bench = ConsumerBench.connected()
        bench.now += .milliseconds(4999)
        bench.handle(.disconnected)
        bench.handle(.connected)
        #expect(bench.answer(.reconciled(jobs: 0)).claim != nil)
        bench.now += .seconds(5)
        bench.handle(.disconnected)
        bench.handle(.connected)
        #expect(bench.answer(.reconciled(jobs: 0)).examination != nil)
        bench.handle(.disconnected)
        bench.handle(.connected)
        #expect(bench.answer(.reconciled(jobs: 0)).examination != nil)
        #expect(bench.answer(.examined(unreadable: [])).claim != nil)
    }

    @Test("without a connection and with nothing held, a shutdown is over at once")
    func stopsAtOnce() {
        var bench = ConsumerBench()
        #expect(bench.handle(.drain).stops)
    }

    @Test("with nothing held, a shutdown waits two seconds for a server that says nothing, and no longer")
    func stopsBeforeSilentServer() {
        var bench = ConsumerBench.connected()
        #expect(!bench.handle(.drain).stops)
        bench.now += .milliseconds(1999)
        #expect(!bench.handle(.tick).stops)
        bench.now += .milliseconds(1)
        #expect(bench.handle(.tick).stops)
    }

    @Test("a shutdown waits for a silent server that has not yet recorded how a run ended")
    func waitsForSettle() {
        var bench = ConsumerBench.connected()
        bench.end(bench.start(1...1))
        bench.handle(.drain)
        bench.now += .seconds(10)
        #expect(!bench.handle(.tick).stops)
        #expect(bench.answer(.settled()).stops)
    }

    @Test("asks to be woken when it finds no jobs, and claims once more before it waits")
    func sleeps() {
        var bench = ConsumerBench.connected(listens: true)
        bench.answer(.claimed([]))
        #expect(bench.answer(.settled()).sleepsFor == ["k"])
        #expect(bench.answer(.done).claim?.isWide == true)
        bench.answer(.claimed([]))
        #expect(bench.answer(.settled()).request == nil)
        #expect(bench.handle(.woken(kind: "k")).claim?.lanes.map(\.priority) == [5])
        bench.answer(.claimed([]))
        // The job that woke the worker may be in another lane.
        #expect(bench.answer(.settled()).claim?.isWide == true)
    }

    @Test(
        "claims again when it is woken while a claim is in flight, which may have begun before the insert",
        arguments: ["k", nil],
        [0, 1]
    )
    func wokenDuringClaim(kind: String?, found: Int) {
        var bench = ConsumerBench.connected(listens: true)
        bench.answer(.claimed([]))
        bench.answer(.settled())
        // The claim after this answer is for all lanes.
        #expect(bench.answer(.done).claim?.isWide == true)
        bench.now += .milliseconds(1)
        bench.handle(.woken(kind: kind))
        bench.now += .milliseconds(1)
        bench.answer(.claimed(found == 0 ? [] : bench.jobs(1...1)))
        let next = bench.answer(.settled()).claim
        #expect(next != nil)
        if kind == nil { #expect(next?.isWide == true) }
        bench.now += .milliseconds(1)
        bench.answer(.claimed([]))
        // The job that woke the worker may be in another lane.
        #expect((bench.answer(.settled()).claim?.isWide == true) == (kind != nil))
    }

    @Test("polls a hot kind instead of being woken for it, and stops when it cannot keep up")
    func polls() {
        var bench = ConsumerBench.connected(concurrency: 100, listens: true)
        bench.end(bench.start(1...20))
        // The first run to end was settled alone, and the others together.
        for _ in 1...2 {
            bench.answer(.claimed([]))
            bench.answer(.settled())
        }
        let actions = bench.lastActions
        #expect(actions.polls == ["k"])
        bench.answer(.done)
        bench.now += HotKinds.interval
        let look = bench.handle(.tick).claim
        #expect(look != nil)
        bench.answer(.claimed(bench.jobs(100...(99 + Int64(max(1, look?.total ?? 1))), lease: 2)))
        #expect(bench.answer(.settled()).sleepsFor == [])
    }

    @Test("in a backlog sends a second claim while the first is not durable yet, and no third")
    func overlaps() throws {
        var bench = ConsumerBench.connected(concurrency: 4000)
        let first = bench.answer(.claimed(bench.jobs(1...4000)))
        #expect(first.request == nil, "nothing has ended that could make room")
        bench.end(bench.answer(.settled()).starts)
        bench.answer(.claimed(bench.jobs(5001...5003, lease: 2)))
        bench.answer(.settled())
        let claim = try #require(bench.inFlightClaim)
        #expect(claim.total >= 1000)
        let jobs = bench.jobs(10_001...(10_000 + Int64(claim.total)), lease: 3)
        #expect(bench.answer(.claimed(jobs)).claim != nil)
        #expect(bench.consumer.inFlight.count == 2)
        #expect(bench.handle(.tick).request == nil)
    }
}
