import Testing

@testable import Breakwater

@Suite("Attention")
struct AttentionTests {
    private let start = MonotonicClock.Instant.now
    private var attention = Attention()

    private func jobs(_ count: Int, kind: String = "k") -> [ClaimedJob] {
        (0..<count).map { ClaimedJob(job: Job(id: Int64($0), kind: kind), position: Int64($0)) }
    }

    @Test("is paid to a kind of which many come, and to no other")
    mutating func many() {
        attention.arrived(jobs(Attention.least) + jobs(Attention.least - 1, kind: "rare"), at: start)
        attention.review(at: start)
        #expect(attention.kinds == ["k"])
    }

    @Test("is not paid to one each twenty milliseconds, which is woken for")
    mutating func trickle() {
        for tick in 0..<200 {
            let now = start + .milliseconds(20) * tick
            attention.arrived(jobs(1), at: now)
            attention.review(at: now)
            #expect(attention.kinds.isEmpty)
        }
    }

    @Test("lasts while they come, and ends within two slots when they do not")
    mutating func ends() {
        var now = start
        attention.arrived(jobs(20), at: now)
        for _ in 0..<80 {
            now += .milliseconds(12)
            attention.arrived(jobs(1), at: now)
            attention.review(at: now)
            #expect(attention.kinds == ["k"])
        }
        attention.review(at: now + Attention.slot * 2)
        #expect(attention.kinds.isEmpty)
    }

    @Test("does not outlast a burst for a trickle")
    mutating func burst() {
        attention.arrived(jobs(Attention.least), at: start)
        attention.review(at: start)
        #expect(attention.kinds == ["k"])
        for tick in 1...15 {
            attention.arrived(jobs(1), at: start + .milliseconds(20) * tick)
            attention.review(at: start + .milliseconds(20) * tick)
        }
        #expect(attention.kinds.isEmpty)
    }
}
