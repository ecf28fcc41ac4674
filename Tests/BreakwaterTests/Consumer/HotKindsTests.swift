import Testing

@testable import Breakwater

@Suite("Hot kinds")
struct HotKindsTests {
    private let start = MonotonicClock.Instant.now
    private var hotKinds = HotKinds()

    private func jobs(_ count: Int, kind: String = "k") -> [ClaimedJob] {
        (0..<count).map { ClaimedJob(job: Job(id: Int64($0), kind: kind), position: Int64($0)) }
    }

    @Test("a kind with many arriving jobs is hot, and no other")
    mutating func many() {
        hotKinds.arrived(jobs(HotKinds.least) + jobs(HotKinds.least - 1, kind: "rare"), at: start)
        hotKinds.review(at: start)
        #expect(hotKinds.kinds == ["k"])
    }

    @Test("one job each twenty milliseconds does not make a kind hot")
    mutating func trickle() {
        for tick in 0..<200 {
            let now = start + .milliseconds(20) * tick
            hotKinds.arrived(jobs(1), at: now)
            hotKinds.review(at: now)
            #expect(hotKinds.kinds.isEmpty)
        }
    }

    @Test("a kind stays hot while jobs arrive, and ends within two slots when they do not")
    mutating func ends() {
        var now = start
        hotKinds.arrived(jobs(20), at: now)
        for _ in 0..<80 {
            now += .milliseconds(12)
            hotKinds.arrived(jobs(1), at: now)
            hotKinds.review(at: now)
            #expect(hotKinds.kinds == ["k"])
        }
        hotKinds.review(at: now + HotKinds.slot * 2)
        #expect(hotKinds.kinds.isEmpty)
    }

    @Test("a kind does not stay hot if a trickle follows a burst")
    mutating func burst() {
        hotKinds.arrived(jobs(HotKinds.least), at: start)
        hotKinds.review(at: start)
        #expect(hotKinds.kinds == ["k"])
        for tick in 1...15 {
            hotKinds.arrived(jobs(1), at: start + .milliseconds(20) * tick)
            hotKinds.review(at: start + .milliseconds(20) * tick)
        }
        #expect(hotKinds.kinds.isEmpty)
    }
}
