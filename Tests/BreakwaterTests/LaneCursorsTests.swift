import Libpq
import Testing

@testable import Breakwater

@Suite("A worker's place in its lanes")
struct LaneCursorsTests {
    let lane = Lane(queue: "default", kind: "k", priority: 5)
    let start = Moment.now
    var lanes = LaneCursors(queues: ["default"], kinds: ["k"])

    private func reach(_ position: Int64) -> Claim.Reach { Claim.Reach(lane: lane, jobs: 1, position: position) }

    private func horizon(passed: Bool = true, highest: Int64, holders: [String] = []) -> Horizon.Output {
        Horizon.Output(passed: passed, highest: highest, holders: holders)
    }

    @Test("moves behind what was claimed, never back by a claim")
    mutating func claimed() {
        lanes.claimed([reach(7), reach(9)], at: start)
        #expect(lanes.cursor(of: lane) == 9)
        lanes.claimed([reach(3)], at: start)
        #expect(lanes.cursor(of: lane) == 9)
        #expect(lanes.floor(of: lane) == 0)
    }

    @Test("a sweep that finds a job behind the cursor moves it back, and says so")
    mutating func behind() {
        lanes.claimed([reach(100)], at: start)
        let hasNews = lanes.swept([lane: 40], horizon: nil, at: start)
        #expect(hasNews)
        #expect(lanes.cursor(of: lane) == 39)
    }

    @Test("the floor stays while somebody who may still add jobs below it is at work")
    mutating func floorWaits() {
        lanes.claimed([reach(100)], at: start)
        #expect(lanes.notedHolders == [])
        // The note: everything up to 120 is drawn, and 3/7 may still commit some of it.
        _ = lanes.swept([:], horizon: horizon(highest: 120, holders: ["3/7"]), at: start)
        #expect(lanes.floor(of: lane) == 0)
        #expect(lanes.notedHolders == ["3/7"])
        _ = lanes.swept([:], horizon: horizon(passed: false, highest: 200, holders: ["3/7", "4/1"]), at: start)
        #expect(lanes.floor(of: lane) == 0)
        #expect(lanes.notedHolders == ["3/7"])
        // It has ended; nothing is ready: up to what was noted then, and no further.
        _ = lanes.swept([:], horizon: horizon(highest: 300, holders: ["5/5"]), at: start)
        #expect(lanes.floor(of: lane) == 120)
        #expect(lanes.cursor(of: lane) == 120)
    }

    @Test("another timeline, or positions drawn again, make it start over; a standby says nothing of its timeline")
    mutating func forgets() {
        func has(_ timeline: Int64?, _ highest: Int64) -> Bool {
            lanes.claimed([reach(100)], at: start)
            let hasForgotten = lanes.hasForgotten(for: PositionSource(timeline: timeline, highest: highest))
            #expect(lanes.cursor(of: lane) == (hasForgotten ? 0 : 100))
            return hasForgotten
        }
        #expect(!has(1, 100))
        #expect(!has(1, 100))
        #expect(!has(nil, 120))
        #expect(!has(1, 130))
        #expect(has(2, 140))
        #expect(!has(2, 150))
        #expect(has(2, 149))
        #expect(!has(2, 149))
    }

    @Test("begins at the floors of others, unless it knows higher ones, and tells of its own when they have risen")
    mutating func floorsOfOthers() {
        lanes.begin(at: [lane: 500, Lane(queue: "another", kind: "k", priority: 5): 900])
        #expect(lanes.floor(of: lane) == 500)
        #expect(lanes.cursor(of: lane) == 500)
        lanes.begin(at: [lane: 400])
        #expect(lanes.floor(of: lane) == 500)
        lanes.claimed([reach(620)], at: start)
        _ = lanes.swept([:], horizon: horizon(highest: 620), at: start)
        _ = lanes.swept([:], horizon: horizon(highest: 620), at: start)
        #expect(lanes.takeFloorsToNote(risenBy: 121).isEmpty)
        let floors = lanes.takeFloorsToNote(risenBy: 120)
        // Of the lanes that had jobs.
        #expect(floors.map(\.lane) == [lane])
        #expect(floors.map(\.floor) == [620])
        #expect(lanes.takeFloorsToNote(risenBy: 1).isEmpty)
    }

    @Test("the floor stays below a ready job, whatever is proven")
    mutating func floorBelowReady() {
        lanes.claimed([reach(100)], at: start)
        _ = lanes.swept([:], horizon: horizon(highest: 120), at: start)
        _ = lanes.swept([lane: 50], horizon: horizon(highest: 130), at: start)
        #expect(lanes.floor(of: lane) == 49)
        #expect(lanes.cursor(of: lane) == 49)
    }

    @Test("with its floors as high as its cursors it asks for no proof")
    mutating func nothingToProve() {
        #expect(lanes.notedHolders == nil)
        lanes.claimed([reach(100)], at: start)
        #expect(lanes.notedHolders != nil)
        _ = lanes.swept([:], horizon: horizon(highest: 120), at: start)
        _ = lanes.swept([:], horizon: horizon(highest: 120), at: start)
        #expect(lanes.notedHolders == nil)
    }

    @Test("a lane that a sweep found is asked at every claim, until it has been quiet for a while")
    mutating func activity() {
        let quiet = LaneCursors.activeTime + .milliseconds(1)
        #expect(lanes.active(kinds: ["k"], rotation: ["k"], at: start) == [])
        let found = lanes.swept([lane: 10], horizon: nil, at: start)
        #expect(found)
        #expect(lanes.active(kinds: ["k"], rotation: ["k"], at: start) == [lane])
        #expect(lanes.active(kinds: [], rotation: ["k"], at: start) == [])
        #expect(lanes.active(kinds: ["k"], rotation: ["k"], at: start + quiet) == [])
        lanes.claimed([reach(11)], at: start + quiet)
        #expect(lanes.active(kinds: ["k"], rotation: ["k"], at: start + quiet) == [lane])
    }

    @Test("a job that a claim may not take is news once, not again and again")
    mutating func pausedLane() {
        let first = lanes.swept([lane: 10], horizon: nil, at: start)
        let second = lanes.swept([lane: 10], horizon: nil, at: start)
        #expect(first)
        #expect(!second)
    }

    @Test("a job that was committed after the last claim, in an active lane, is news")
    mutating func newInActiveLane() {
        lanes.claimed([reach(10)], at: start)
        let quiet = lanes.swept([:], horizon: nil, at: start)
        let hasNews = lanes.swept([lane: 12], horizon: nil, at: start)
        #expect(!quiet)
        #expect(hasNews)
    }

    @Test("asks the important lanes first, and among equals lets the kinds take turns")
    func order() {
        var lanes = LaneCursors(queues: ["q1", "q2"], kinds: ["a", "b"])
        _ = lanes.swept(Dictionary(uniqueKeysWithValues: lanes.all.map { ($0, 1) }), horizon: nil, at: start)
        let order = lanes.active(kinds: ["a", "b"], rotation: ["b", "a"], at: start)
        #expect(order.count == 40)
        #expect(order.map(\.priority) == order.map(\.priority).sorted())
        #expect(order.prefix(4).map { "\($0.kind)\($0.queue)" } == ["bq1", "bq2", "aq1", "aq2"])
    }
}
