import Testing

@testable import Breakwater

@Suite("The next round of chores")
struct MaintenanceServiceTests {
    @Test("follows at once if any chore filled its portion, and not otherwise")
    func fullPortion() {
        let full = MaintenanceService.portion
        for done in [
            Maintain.Output(leads: true, promoted: full), Maintain.Output(leads: true, fellBack: full),
            Maintain.Output(leads: true, unparked: full),
            Maintain.Output(leads: true, scheduled: MaintenanceService.slotPortion),
        ] {
            #expect(MaintenanceService.pause(after: done) == .milliseconds(10))
        }
        let less = Maintain.Output(
            leads: true,
            promoted: full - 1,
            fellBack: full - 1,
            unparked: full - 1,
            scheduled: MaintenanceService.slotPortion - 1
        )
        #expect(MaintenanceService.pause(after: less) == MaintenanceService.leaderInterval)
    }

    @Test("comes when the next job is due, but no later than the leader's interval")
    func nextDue() {
        func pause(_ nextDue: Duration) -> Duration {
            MaintenanceService.pause(after: Maintain.Output(leads: true, nextDue: nextDue))
        }
        #expect(pause(.milliseconds(300)) == .milliseconds(300))
        #expect(pause(.seconds(60)) == MaintenanceService.leaderInterval)
        #expect(pause(.seconds(-5)) == .milliseconds(10))
    }

    @Test("of a follower comes later, and asks whether the leader is gone")
    func follower() {
        #expect(MaintenanceService.pause(after: Maintain.Output(leads: false)) == MaintenanceService.followerInterval)
    }
}
