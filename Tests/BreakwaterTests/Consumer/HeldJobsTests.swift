import BreakwaterTesting
import Testing

@testable import Breakwater

@Suite("The jobs that a worker holds")
struct HeldJobsTests {
    private let now = MonotonicClock.Instant.now

    private func held(_ concurrency: Int, _ kinds: [String: Int?] = ["k": nil]) -> HeldJobs {
        let handlers = kinds.sorted { $0.key < $1.key }.map { kind, limit in
            var settings = HandlerSettings()
            settings.concurrency = limit
            return (kind: kind, settings: settings)
        }
        return HeldJobs(concurrency: concurrency, handlers: handlers)
    }

    private func jobs(_ ids: ClosedRange<Int64>, kind: String = "k", lease: Int64 = 1) -> [ClaimedJob] {
        ids.map { id in
            var job = Job(id: id, kind: kind)
            job.lease = lease
            job.generation = 1
            return ClaimedJob(job: job, position: id)
        }
    }

    private func count(of kind: String, in room: HeldJobs.ClaimPlan) -> Int {
        room.kinds.first { $0.kind == kind }?.count ?? 0
    }

    /// Ends runs as a handler that succeeds does.
    private func end(_ starts: [HeldJobs.Start], in held: inout HeldJobs) {
        for start in starts where held.ended(slot: start.slot, serial: start.serial) != nil {
            held.finish(start.job, .succeeded)
        }
    }

    @Test("asks for as many jobs as it has slots, and for none when they are full")
    func room() {
        var held = held(10, ["k": 4])
        #expect(count(of: "k", in: held.planClaim(batches: 2)) == 4)
        held.take(jobs(1...3), at: now)
        #expect(count(of: "k", in: held.planClaim(batches: 2)) == 1)
        held.take(jobs(4...4), at: now)
        #expect(held.planClaim(batches: 2).kinds.isEmpty)
        #expect(held.starts(at: now).count == 4)
        #expect(held.planClaim(batches: 2).kinds.isEmpty)
    }

    @Test("never runs more than the total, nor more of a kind than its own limit")
    func limits() {
        var held = held(5, ["a": 3, "b": nil])
        held.take(jobs(1...10, kind: "a") + jobs(11...20, kind: "b"), at: now)
        let first = held.starts(at: now)
        #expect(first.count == 5)
        #expect(first.filter { $0.job.kind == "a" }.count <= 3)
        #expect(held.starts(at: now).isEmpty)
        end(Array(first.prefix(2)), in: &held)
        #expect(held.starts(at: now).count == 2)
        #expect(held.runningCount == 5)
    }

    @Test("starts the important first, and equals in the order of their positions")
    func order() {
        var held = held(1)
        var claimed = jobs(1...4)
        claimed[2].job.priority = 0
        held.take(claimed.shuffled(), at: now)
        var order: [Int64] = []
        while let start = held.starts(at: now).first {
            order.append(start.job.id)
            end([start], in: &held)
        }
        #expect(order == [3, 1, 2, 4])
    }

    @Test("a job without a limit of its own gets its handler's")
    func maxAttempts() {
        var held = held(2)
        var claimed = jobs(1...2)
        claimed[0].job.maxAttempts = 0
        claimed[1].job.maxAttempts = 3
        held.take(claimed, at: now)
        #expect(held.starts(at: now).map(\.job.maxAttempts) == [20, 3])
    }

    @Test("a slow kind cannot take the slots of the others", arguments: [2, 3, 5, 10, 100])
    func reserve(concurrency: Int) {
        var held = held(concurrency, ["slow": nil, "quick": nil])
        for round in 0..<5 {
            let count = count(of: "slow", in: held.planClaim(batches: 2))
            guard count > 0 else { break }
            let first = Int64(round * 1000)
            held.take(jobs(first...(first + Int64(count) - 1), kind: "slow"), at: now)
            _ = held.starts(at: now)
        }
        #expect(held.runningCount >= concurrency / 2)
        #expect(count(of: "quick", in: held.planClaim(batches: 2)) >= 1)
    }

    @Test("with more kinds than slots, every free slot can be filled by some kind, and none starves")
    func moreKindsThanSlots() {
        let names = (1...9).map { "k\($0)" }
        for concurrency in 1...8 {
            for busy in 0..<concurrency {
                var held = held(
                    concurrency,
                    Dictionary(uniqueKeysWithValues: names.map { ($0, nil) })
                )
                // Some kinds hold one slot each, for ever.
                for index in 0..<busy {
                    let id = Int64(index + 1)
                    held.take(jobs(id...id, kind: names[index]), at: now)
                }
                #expect(held.starts(at: now).count == busy)
                let room = held.planClaim(batches: 2)
                #expect(room.total == concurrency - busy)
                for name in names[busy...] {
                    #expect(count(of: name, in: room) >= 1, "\(name): \(busy) of \(concurrency) slots busy")
                }
            }
        }
    }

    @Test("a single busy kind among many idle ones gets half of the slots at least")
    func loneKind() {
        var held = held(10, Dictionary(uniqueKeysWithValues: (1...30).map { ("k\($0)", nil) }))
        for round in 0..<10 {
            let count = count(of: "k7", in: held.planClaim(batches: 2))
            guard count > 0 else { continue }
            let first = Int64(round * 100)
            held.take(jobs(first...(first + Int64(count) - 1), kind: "k7"), at: now)
            _ = held.starts(at: now)
        }
        #expect(held.runningCount >= 5)
    }

    @Test("lets the kinds take turns at being first")
    func turns() {
        var held = held(5, ["a": nil, "b": nil, "c": nil])
        let firsts = (0..<6).map { _ in held.planClaim(batches: 2).rotation.first ?? "" }
        #expect(Set(firsts.prefix(3)) == ["a", "b", "c"])
        #expect(Array(firsts.prefix(3)) == Array(firsts.suffix(3)))
    }

    @Test(
        "claims ahead twice as many jobs as end between claims, then fewer and fewer, and never more than its bound"
    )
    func prefetch() {
        var held = held(4000)
        held.take(jobs(1...4000), at: now)
        let started = held.starts(at: now)
        #expect(count(of: "k", in: held.planClaim(batches: 2)) == 0)
        end(Array(started.prefix(8)), in: &held)
        #expect(count(of: "k", in: held.planClaim(batches: 2)) == 8 + 16)
        #expect(count(of: "k", in: held.planClaim(batches: 2)) == 8 + 12)
        #expect(count(of: "k", in: held.planClaim(batches: 2)) == 8 + 8)
        end(Array(started.dropFirst(8).prefix(3000)), in: &held)
        #expect(held.planClaim(batches: 2).total == 3008 + HeldJobs.mostAhead)
    }

    @Test(
        "claims ahead three times as many while a claim is not durable, and counts the jobs of that claim"
    )
    func claimsAhead() {
        var held = held(4000)
        held.take(jobs(1...4000), at: now)
        let started = held.starts(at: now)
        end(Array(started.prefix(800)), in: &held)
        held.accept(jobs(5001...6600, lease: 2), of: 9)
        #expect(count(of: "k", in: held.planClaim(batches: 3)) == 800 + 2400 - 1600)
        #expect(held.starts(at: now).isEmpty)
        held.confirm(9, askedAt: now)
        #expect(held.starts(at: now).count == 800)
    }

    @Test("jobs whose claim may be lost are forgotten with it, and their claims are no longer known")
    func forgetsUnconfirmed() {
        var held = held(10)
        held.take(jobs(1...2), at: now)
        held.accept(jobs(3...4, lease: 2), of: 9)
        #expect(Set(held.knownClaims) == [1, 2])
        held.forgetUnconfirmed()
        held.confirm(9, askedAt: now)
        #expect(held.knownClaims == [1])
        #expect(held.starts(at: now).map(\.job.id) == [1, 2])
        #expect(held.planClaim(batches: 0).total == 8)
    }

    @Test("a stop releases what has not started, of that kind alone, and lets what runs go on")
    func stop() {
        var held = held(2, ["a": 1, "b": 1])
        held.take(jobs(1...3, kind: "a") + jobs(4...6, kind: "b"), at: now)
        #expect(held.starts(at: now).count == 2)
        held.stop(kinds: ["a": 2], isComplete: true, at: now)
        let (runs, claims) = held.drainFinished()
        #expect(Set(runs.map(\.id)) == [2, 3])
        #expect(runs.allSatisfy { $0.ending == .released })
        #expect(claims.isEmpty)
        #expect(held.runningCount == 2)
    }

    @Test("after its claims were forgotten, a run that ends late settles nothing")
    func forgotten() {
        var held = held(2)
        held.take(jobs(1...3), at: now)
        let started = held.starts(at: now)
        held.forgetClaims()
        #expect(held.knownClaims.isEmpty)
        end(started, in: &held)
        #expect(held.drainFinished().runs.isEmpty)
        #expect(held.isEmpty)
        #expect(count(of: "k", in: held.planClaim(batches: 2)) >= 2)
    }

    @Test("a claim is closed with the last of its runs, not before")
    func closedClaims() {
        var held = held(10)
        held.take(jobs(1...2, lease: 7) + jobs(3...3, lease: 8), at: now)
        let started = held.starts(at: now).sorted { $0.job.id < $1.job.id }
        end([started[0], started[2]], in: &held)
        #expect(Set(held.knownClaims) == [7, 8])
        #expect(held.drainFinished(atMost: 1).claims.isEmpty)
        #expect(held.drainFinished(atMost: 1).claims == [8])
        end([started[1]], in: &held)
        #expect(held.drainFinished().claims == [7])
        #expect(held.knownClaims.isEmpty)
    }

    @Test("runs that could not be settled are settled again, all of them")
    func putBack() {
        var held = held(10)
        held.take(jobs(1...5), at: now)
        end(held.starts(at: now), in: &held)
        let (runs, claims) = held.drainFinished()
        #expect(held.isEmpty)
        held.putBack(runs, claims: claims)
        #expect(!held.isEmpty)
        #expect(held.knownClaims == claims)
        let again = held.drainFinished()
        #expect(Set(again.runs.map(\.id)) == [1, 2, 3, 4, 5])
        #expect(again.claims == claims)
    }

    @Test("a job that was lost and claimed again is settled once, under its newest lease")
    func duplicates() {
        var held = held(10)
        held.take(jobs(1...1, lease: 1), at: now)
        end(held.starts(at: now), in: &held)
        held.take(jobs(1...1, lease: 2), at: now)
        end(held.starts(at: now), in: &held)
        let (runs, claims) = held.drainFinished()
        #expect(runs.map(\.lease) == [2])
        #expect(Set(claims) == [1, 2])
        // The same holds if the older run had been taken for a settle and put back.
        held.take(jobs(1...1, lease: 3), at: now)
        end(held.starts(at: now), in: &held)
        let taken = held.drainFinished()
        held.take(jobs(1...1, lease: 4), at: now)
        end(held.starts(at: now), in: &held)
        held.putBack(taken.runs, claims: taken.claims)
        #expect(held.drainFinished().runs.map(\.lease) == [4])
    }

    @Test("the reason of the first cancellation stays")
    func cancelReasons() {
        var held = held(2)
        held.take(jobs(1...2), at: now)
        let started = held.starts(at: now, atMost: 1) + held.starts(at: now + .seconds(1))
        _ = held.cancel(for: .timeout, at: now) { $0.start == now }
        _ = held.cancel(for: .shutdown, at: now)
        let reasons = started.map { held.ended(slot: $0.slot, serial: $0.serial)?.cancelReason }
        #expect(reasons == [.timeout, .shutdown])
    }

    @Test("a run that ignores its cancellation is reported once, and loses its slot after a minute")
    func unresponsive() {
        var held = held(1)
        held.take(jobs(1...2), at: now)
        let start = held.starts(at: now)[0]
        let due = now + .seconds(60)
        #expect(held.checkDeadlines(at: due).due == [start.slot])
        #expect(held.checkDeadlines(at: due + .seconds(9)).unresponsive.isEmpty)
        #expect(held.checkDeadlines(at: due + .seconds(10)).unresponsive == [start.slot])
        #expect(held.checkDeadlines(at: due + .seconds(11)).unresponsive.isEmpty)
        #expect(held.unresponsiveCount == 1)
        #expect(held.starts(at: due).isEmpty)
        #expect(held.checkDeadlines(at: due + .seconds(60)).lost == [start.slot])
        #expect(held.giveUp(slot: start.slot)?.job.id == 1)
        #expect(held.starts(at: due + .seconds(60)).map(\.job.id) == [2])
        #expect(held.unresponsiveCount == 1)
        #expect(held.ended(slot: start.slot, serial: start.serial) == nil)
        #expect(held.unresponsiveCount == 0)
        #expect(held.runningCount == 1)
    }
}

extension HeldJobs {
    /// Accepts jobs whose claim is durable.
    fileprivate mutating func take(_ jobs: [ClaimedJob], at now: MonotonicClock.Instant) {
        accept(jobs, of: 0)
        confirm(0, askedAt: now)
    }

    /// Starts every job that can start now.
    fileprivate mutating func starts(at now: MonotonicClock.Instant, atMost limit: Int = .max) -> [Start] {
        var starts: [Start] = []
        while starts.count < limit, let start = nextStart(at: now) { starts.append(start) }
        return starts
    }
}
