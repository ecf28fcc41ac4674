import Testing

@testable import Breakwater

@Suite("A consumer whose kind is held back by a rule")
struct HeldBackTests {
    @Test("claims again when the time comes that the database gave")
    func time() {
        var bench = ConsumerBench.connected()
        var actions: [Consumer.Action] = []
        // The first claims cover fewer lanes than all.
        while bench.inFlightClaim != nil {
            bench.answer(.claimed([], heldBack: ["k": .milliseconds(300)]))
            actions = bench.answer(.settled())
        }
        let next = actions.compactMap { if case .wait(let until) = $0 { until } else { nil } }.last
        #expect(next.map { $0 <= bench.now + .milliseconds(300) } == true)
        bench.now = bench.now + .milliseconds(300)
        bench.handle(.tick)
        #expect(bench.inFlightClaim != nil)
    }

    @Test("settles first and then claims, because the runs that ended make room")
    func settlesFirst() {
        var bench = ConsumerBench.connected()
        bench.answer(.claimed(bench.jobs(1...2), heldBack: ["k": .milliseconds(250)]))
        let starts = bench.answer(.settled()).starts
        #expect(starts.count == 2)
        while bench.inFlightClaim != nil {
            bench.answer(.claimed([], heldBack: ["k": .milliseconds(250)]))
            bench.answer(.settled())
        }
        bench.end(starts)
        let works = bench.consumer.inFlight.map(\.request.work)
        guard works.count == 2, case .exchange(nil, let settle?) = works[0], case .exchange(_?, nil) = works[1] else {
            Issue.record("\(works)")
            return
        }
        #expect(settle.runs.count >= 1)
    }

    @Test("starts a job no earlier than its rate allows, and the jobs of other kinds meanwhile")
    func delays() {
        var bench = ConsumerBench(kinds: ["k": nil, "other": nil])
        bench.handle(.connected)
        bench.answer(.reconciled(jobs: 0))
        var late = bench.jobs(1...2)
        late[0].startsAt = bench.now + .milliseconds(20)
        late[1].startsAt = bench.now + .milliseconds(40)
        bench.answer(.claimed(late + bench.jobs(3...3, kind: "other", lease: 2)))
        #expect(bench.answer(.settled()).starts.map(\.job.id) == [3])
        let actions = bench.handle(.tick)
        let next = actions.compactMap { if case .wait(let until) = $0 { until } else { nil } }.last
        #expect(next.map { $0 <= bench.now + .milliseconds(20) } == true)
        bench.now = bench.now + .milliseconds(20)
        #expect(bench.handle(.tick).starts.map(\.job.id) == [1])
        bench.now = bench.now + .milliseconds(20)
        #expect(bench.handle(.tick).starts.map(\.job.id) == [2])
    }
}
