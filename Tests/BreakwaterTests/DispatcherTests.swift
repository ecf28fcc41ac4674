import BreakwaterTesting
import Testing

@testable import Breakwater

@Suite("The dispatcher")
struct DispatcherTests {
    private let now = MonotonicClock.Instant.now

    private func dispatcher(_ concurrency: Int, _ kinds: [String: Int?] = ["k": nil]) -> Dispatcher {
        let nothing = ClosureHandler { _, _ in .succeeded() }
        let handlers = kinds.sorted { $0.key < $1.key }.map { kind, limit in
            var settings = HandlerSettings()
            settings.concurrency = limit
            return HandlerRegistration(kind: kind, plugin: nothing, settings: settings)
        }
        return Dispatcher(concurrency: concurrency, handlers: handlers, lease: .seconds(40), heldSince: now)
    }

    private func jobs(_ ids: ClosedRange<Int64>, kind: String = "k", lease: Int64 = 1) -> [ClaimedJob] {
        ids.map { id in
            var job = Job(id: id, kind: kind)
            job.lease = lease
            job.generation = 1
            return ClaimedJob(job: job, position: id)
        }
    }

    private func count(of kind: String, in room: Dispatcher.Room) -> Int {
        room.kinds.first { $0.kind == kind }?.count ?? 0
    }

    private func key(_ job: Job) -> Dispatcher.RunKey { Dispatcher.RunKey(id: job.id, lease: job.lease) }

    /// Ends runs as a handler that succeeds does.
    private func end(_ jobs: [Job], in dispatcher: inout Dispatcher) {
        for job in jobs where dispatcher.ended(key(job)) != nil { dispatcher.finish(job, .succeeded) }
    }

    @Test("asks for as many jobs as it has slots, and for none when they are full")
    func room() {
        var dispatcher = dispatcher(10, ["k": 4])
        #expect(count(of: "k", in: dispatcher.room()) == 4)
        dispatcher.accept(jobs(1...3), askedAt: now)
        #expect(count(of: "k", in: dispatcher.room()) == 1)
        dispatcher.accept(jobs(4...4), askedAt: now)
        #expect(dispatcher.room().kinds.isEmpty)
        #expect(dispatcher.startable(at: now).count == 4)
        #expect(dispatcher.room().kinds.isEmpty)
    }

    @Test("never runs more than the total, nor more of a kind than its own limit")
    func limits() {
        var dispatcher = dispatcher(5, ["a": 3, "b": nil])
        dispatcher.accept(jobs(1...10, kind: "a") + jobs(11...20, kind: "b"), askedAt: now)
        let first = dispatcher.startable(at: now)
        #expect(first.count == 5)
        #expect(first.filter { $0.kind == "a" }.count <= 3)
        #expect(dispatcher.startable(at: now).isEmpty)
        end(Array(first.prefix(2)), in: &dispatcher)
        #expect(dispatcher.startable(at: now).count == 2)
        #expect(dispatcher.running.count == 5)
    }

    @Test("starts the important first, and equals in the order of their positions")
    func order() {
        var dispatcher = dispatcher(1)
        var claimed = jobs(1...4)
        claimed[2].job.priority = 0
        dispatcher.accept(claimed.shuffled(), askedAt: now)
        var order: [Int64] = []
        while let job = dispatcher.startable(at: now).first {
            order.append(job.id)
            end([job], in: &dispatcher)
        }
        #expect(order == [3, 1, 2, 4])
    }

    @Test("a job without a limit of its own gets its handler's")
    func maxAttempts() {
        var dispatcher = dispatcher(2)
        var claimed = jobs(1...2)
        claimed[0].job.maxAttempts = 0
        claimed[1].job.maxAttempts = 3
        dispatcher.accept(claimed, askedAt: now)
        #expect(dispatcher.startable(at: now).map(\.maxAttempts) == [20, 3])
    }

    @Test("a slow kind cannot take the slots of the others", arguments: [2, 3, 5, 10, 100])
    func reserve(concurrency: Int) {
        var dispatcher = dispatcher(concurrency, ["slow": nil, "quick": nil])
        for round in 0..<5 {
            let count = count(of: "slow", in: dispatcher.room())
            guard count > 0 else { break }
            let first = Int64(round * 1000)
            dispatcher.accept(jobs(first...(first + Int64(count) - 1), kind: "slow"), askedAt: now)
            _ = dispatcher.startable(at: now)
        }
        #expect(dispatcher.running.count >= concurrency / 2)
        #expect(count(of: "quick", in: dispatcher.room()) >= 1)
    }

    @Test("with more kinds than slots, every free slot can be filled by some kind, and none starves")
    func moreKindsThanSlots() {
        let names = (1...9).map { "k\($0)" }
        for concurrency in 1...8 {
            for busy in 0..<concurrency {
                var dispatcher = dispatcher(
                    concurrency,
                    Dictionary(uniqueKeysWithValues: names.map { ($0, nil) })
                )
                // Some kinds hold a slot each, for ever.
                for index in 0..<busy {
                    let id = Int64(index + 1)
                    dispatcher.accept(jobs(id...id, kind: names[index]), askedAt: now)
                }
                #expect(dispatcher.startable(at: now).count == busy)
                let room = dispatcher.room()
                #expect(room.total == concurrency - busy)
                for name in names[busy...] {
                    #expect(count(of: name, in: room) >= 1, "\(name): \(busy) of \(concurrency) slots busy")
                }
            }
        }
    }

    @Test("a single busy kind among many idle ones gets half of the slots at least")
    func loneKind() {
        var dispatcher = dispatcher(10, Dictionary(uniqueKeysWithValues: (1...30).map { ("k\($0)", nil) }))
        for round in 0..<10 {
            let count = count(of: "k7", in: dispatcher.room())
            guard count > 0 else { continue }
            let first = Int64(round * 100)
            dispatcher.accept(jobs(first...(first + Int64(count) - 1), kind: "k7"), askedAt: now)
            _ = dispatcher.startable(at: now)
        }
        #expect(dispatcher.running.count >= 5)
    }

    @Test("lets the kinds take turns at being first")
    func turns() {
        var dispatcher = dispatcher(5, ["a": nil, "b": nil, "c": nil])
        let firsts = (0..<6).map { _ in dispatcher.room().rotation.first ?? "" }
        #expect(Set(firsts.prefix(3)) == ["a", "b", "c"])
        #expect(Array(firsts.prefix(3)) == Array(firsts.suffix(3)))
    }

    @Test(
        "claims ahead twice what ends from claim to claim, less and less of it afterwards, and never beyond its bound"
    )
    func prefetch() {
        var dispatcher = dispatcher(4000)
        dispatcher.accept(jobs(1...4000), askedAt: now)
        let started = dispatcher.startable(at: now)
        #expect(count(of: "k", in: dispatcher.room()) == 0)
        end(Array(started.prefix(8)), in: &dispatcher)
        #expect(count(of: "k", in: dispatcher.room()) == 8 + 16)
        #expect(count(of: "k", in: dispatcher.room()) == 8 + 12)
        #expect(count(of: "k", in: dispatcher.room()) == 8 + 8)
        end(Array(started.dropFirst(8).prefix(3000)), in: &dispatcher)
        #expect(dispatcher.room().total == 3008 + Dispatcher.mostAhead)
    }

    @Test(
        "claims ahead three times what ends from claim to claim while another claim is under way, and counts what it brings"
    )
    func claimsAhead() {
        var dispatcher = dispatcher(4000)
        dispatcher.accept(jobs(1...4000), askedAt: now)
        let started = dispatcher.startable(at: now)
        end(Array(started.prefix(800)), in: &dispatcher)
        #expect(count(of: "k", in: dispatcher.room(coming: ["k": 1600])) == 800 + 2400 - 1600)
        #expect(count(of: "k", in: dispatcher.room(coming: ["k": 4000])) == 0)
    }

    @Test("a stop releases what has not started, of that kind alone, and lets what runs go on")
    func stop() {
        var dispatcher = dispatcher(2, ["a": 1, "b": 1])
        dispatcher.accept(jobs(1...3, kind: "a") + jobs(4...6, kind: "b"), askedAt: now)
        #expect(dispatcher.startable(at: now).count == 2)
        dispatcher.stop(kinds: ["a": 2], at: now)
        let (runs, claims) = dispatcher.takeFinished()
        #expect(Set(runs.map(\.id)) == [2, 3])
        #expect(runs.allSatisfy { $0.ending == .released })
        #expect(claims.isEmpty)
        #expect(dispatcher.running.count == 2)
    }

    @Test("what was claimed before a stop was heard of is released; what was given after it starts")
    func stopAndClaim() {
        var dispatcher = dispatcher(10)
        dispatcher.stop(kinds: ["k": .max], at: now)
        dispatcher.accept(jobs(1...2), askedAt: now - .milliseconds(1))
        #expect(dispatcher.startable(at: now).isEmpty)
        #expect(dispatcher.takeFinished().runs.count == 2)
        // The database gives jobs again: the pause was over before the next beat said so.
        dispatcher.accept(jobs(3...4), askedAt: now + .milliseconds(1))
        #expect(dispatcher.startable(at: now).map(\.id) == [3, 4])
    }

    @Test("a probe of a later generation starts although its kind is known as stopped")
    func probeAfterStop() {
        var dispatcher = dispatcher(10)
        dispatcher.stop(kinds: ["k": 5], at: now)
        var probe = jobs(1...1)
        probe[0].job.generation = 6
        dispatcher.accept(probe, askedAt: now - .milliseconds(1))
        #expect(dispatcher.startable(at: now).count == 1)
    }

    @Test("draining releases what has not started, and starts and asks for nothing more")
    func drain() {
        var dispatcher = dispatcher(1)
        dispatcher.accept(jobs(1...3), askedAt: now)
        let running = dispatcher.startable(at: now)
        dispatcher.drain()
        #expect(Set(dispatcher.takeFinished().runs.map(\.id)) == [2, 3])
        #expect(dispatcher.room().kinds.isEmpty)
        // A claim that was under way comes too late.
        dispatcher.accept(jobs(4...4, lease: 2), askedAt: now)
        #expect(dispatcher.startable(at: now).isEmpty)
        #expect(!dispatcher.isEmpty)
        end(running, in: &dispatcher)
        let (runs, claims) = dispatcher.takeFinished()
        #expect(Set(runs.map(\.id)) == [1, 4])
        #expect(Set(claims) == [1, 2])
        #expect(dispatcher.isEmpty)
    }

    @Test("without its lease it starts nothing; regained, it goes on")
    func lease() {
        var dispatcher = dispatcher(1)
        dispatcher.accept(jobs(1...2), askedAt: now)
        dispatcher.loseLease()
        #expect(dispatcher.startable(at: now).isEmpty)
        #expect(dispatcher.room().kinds.isEmpty)
        #expect(dispatcher.takeFinished().runs.count == 2)
        dispatcher.regainLease(asOf: now)
        #expect(count(of: "k", in: dispatcher.room()) == 1)
    }

    @Test("three quarters of the lease after the last beat it starts nothing, though nobody has told it so yet")
    func sureness() {
        var dispatcher = dispatcher(1)
        dispatcher.accept(jobs(1...3), askedAt: now)
        let first = dispatcher.startable(at: now + .seconds(30))
        #expect(first.map(\.id) == [1])
        end(first, in: &dispatcher)
        #expect(dispatcher.nextStartable(at: now + .seconds(31)) == nil)
        #expect(!dispatcher.isSure(at: now + .seconds(31)))
        dispatcher.regainLease(asOf: now + .seconds(10))
        #expect(dispatcher.nextStartable(at: now + .seconds(31))?.id == 2)
    }

    @Test("a run whose task got its thread too late, or after it was cancelled, does not begin")
    func lateBeginning() throws {
        var dispatcher = dispatcher(3)
        dispatcher.accept(jobs(1...3), askedAt: now)
        let next = dispatcher.nextStartable(at: now)
        let job = try #require(next)
        #expect(dispatcher.mayBegin(key(job), at: now + .seconds(30)))
        #expect(!dispatcher.mayBegin(key(job), at: now + .seconds(31)))
        dispatcher.regainLease(asOf: now + .seconds(30))
        #expect(dispatcher.mayBegin(key(job), at: now + .seconds(31)))
        _ = dispatcher.cancel(for: .leaseLost)
        #expect(!dispatcher.mayBegin(key(job), at: now + .seconds(31)))
        #expect(!dispatcher.mayBegin(Dispatcher.RunKey(id: 9, lease: 1), at: now))
    }

    @Test("after its claims were forgotten, a run that ends late settles nothing")
    func forgotten() {
        var dispatcher = dispatcher(2)
        dispatcher.accept(jobs(1...3), askedAt: now)
        let started = dispatcher.startable(at: now)
        dispatcher.forgetClaims()
        #expect(dispatcher.knownClaims.isEmpty)
        end(started, in: &dispatcher)
        #expect(dispatcher.takeFinished().runs.isEmpty)
        #expect(dispatcher.isEmpty)
        #expect(count(of: "k", in: dispatcher.room()) >= 2)
    }

    @Test("a claim is struck off with the last of its runs, not before")
    func closedClaims() {
        var dispatcher = dispatcher(10)
        dispatcher.accept(jobs(1...2, lease: 7) + jobs(3...3, lease: 8), askedAt: now)
        let started = dispatcher.startable(at: now).sorted { $0.id < $1.id }
        end([started[0], started[2]], in: &dispatcher)
        #expect(Set(dispatcher.knownClaims) == [7, 8])
        #expect(dispatcher.takeFinished(atMost: 1).claims.isEmpty)
        #expect(dispatcher.takeFinished(atMost: 1).claims == [8])
        end([started[1]], in: &dispatcher)
        #expect(dispatcher.takeFinished().claims == [7])
        #expect(dispatcher.knownClaims.isEmpty)
    }

    @Test("what could not be settled comes again, complete")
    func putBack() {
        var dispatcher = dispatcher(10)
        dispatcher.accept(jobs(1...5), askedAt: now)
        end(dispatcher.startable(at: now), in: &dispatcher)
        let (runs, claims) = dispatcher.takeFinished()
        #expect(dispatcher.isEmpty)
        dispatcher.putBack(runs, claims: claims)
        #expect(!dispatcher.isEmpty)
        #expect(dispatcher.knownClaims == claims)
        let again = dispatcher.takeFinished()
        #expect(Set(again.runs.map(\.id)) == [1, 2, 3, 4, 5])
        #expect(again.claims == claims)
    }

    @Test("a job that was lost and claimed again is settled once, under its newest lease")
    func duplicates() {
        var dispatcher = dispatcher(10)
        dispatcher.accept(jobs(1...1, lease: 1), askedAt: now)
        end(dispatcher.startable(at: now), in: &dispatcher)
        dispatcher.accept(jobs(1...1, lease: 2), askedAt: now)
        end(dispatcher.startable(at: now), in: &dispatcher)
        let (runs, claims) = dispatcher.takeFinished()
        #expect(runs.map(\.lease) == [2])
        #expect(Set(claims) == [1, 2])
        // Also when the older had been taken and put back.
        dispatcher.accept(jobs(1...1, lease: 3), askedAt: now)
        end(dispatcher.startable(at: now), in: &dispatcher)
        let taken = dispatcher.takeFinished()
        dispatcher.accept(jobs(1...1, lease: 4), askedAt: now)
        end(dispatcher.startable(at: now), in: &dispatcher)
        dispatcher.putBack(taken.runs, claims: taken.claims)
        #expect(dispatcher.takeFinished().runs.map(\.lease) == [4])
    }

    @Test("the reason of the first cancellation stays")
    func cancelReasons() {
        var dispatcher = dispatcher(2)
        dispatcher.accept(jobs(1...2), askedAt: now)
        let started = dispatcher.startable(at: now, atMost: 1) + dispatcher.startable(at: now + .seconds(1))
        _ = dispatcher.cancel(for: .timeout) { $0.start == now }
        _ = dispatcher.cancel(for: .shutdown)
        let reasons = started.map { dispatcher.ended(key($0))?.cancelReason }
        #expect(reasons == [.timeout, .shutdown])
    }
}

@Suite("A signal")
struct SignalTests {
    @Test("raised before the wait, lets it through at once, and only once")
    func raisedBefore() async {
        let signal = Signal()
        signal.raise()
        signal.raise()
        await signal.wait()
        let passed = Notes()
        let waiter = Task {
            await signal.wait()
            passed.add("passed")
        }
        for _ in 0..<100 { await Task.yield() }
        #expect(passed.all.isEmpty)
        signal.raise()
        await waiter.value
        #expect(passed.all == ["passed"])
    }

    @Test("lets a cancelled task go on, before and during its wait")
    func cancelled() async {
        let signal = Signal()
        let waiter = Task { await signal.wait() }
        waiter.cancel()
        await waiter.value
        let late = Task {
            while !Task.isCancelled { await Task.yield() }
            await signal.wait()
        }
        late.cancel()
        await late.value
    }

    @Test("loses no raise among many")
    func hammered() async throws {
        let signal = Signal()
        let work = Notes()
        let rounds = 2000
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for round in 0..<rounds {
                    work.add("\(round)")
                    signal.raise()
                    if round % 7 == 0 { await Task.yield() }
                }
            }
            group.addTask {
                while work.all.count < rounds { await signal.wait() }
            }
            try await group.waitForAll()
        }
        #expect(work.all.count == rounds)
    }
}
