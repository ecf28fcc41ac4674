import Testing

@testable import Breakwater

@Suite("The next round of chores")
struct ChoreLoopTests {
    @Test("follows at once on a full portion, of whichever chore, and not on less")
    func fullPortion() {
        let full = ChoreLoop.portion
        for done in [
            Maintain.Output(leads: true, promoted: full), Maintain.Output(leads: true, fellBack: full),
            Maintain.Output(leads: true, unparked: full),
        ] {
            #expect(ChoreLoop.pause(after: done) == .milliseconds(10))
        }
        let less = Maintain.Output(leads: true, promoted: full - 1, fellBack: full - 1, unparked: full - 1)
        #expect(ChoreLoop.pause(after: less) == ChoreLoop.leaderInterval)
    }

    @Test("comes when the next job is due, but no later than the leader's interval")
    func nextDue() {
        #expect(
            ChoreLoop.pause(after: Maintain.Output(leads: true, nextDue: .milliseconds(300))) == .milliseconds(300)
        )
        #expect(ChoreLoop.pause(after: Maintain.Output(leads: true, nextDue: .seconds(60))) == ChoreLoop.leaderInterval)
        #expect(ChoreLoop.pause(after: Maintain.Output(leads: true, nextDue: .seconds(-5))) == .milliseconds(10))
    }

    @Test("is a follower's question after a longer while")
    func follower() {
        #expect(ChoreLoop.pause(after: Maintain.Output(leads: false)) == ChoreLoop.followerInterval)
    }
}
