import Testing

@testable import Breakwater

@Suite("Quarantine")
struct QuarantineTests {
    private let start = MonotonicClock.Instant.now

    /// Holds a quarantine, so that `#expect` can call its mutating methods.
    @dynamicMemberLookup
    private final class Subject {
        private var quarantine: Quarantine

        init(_ quarantine: Quarantine) { self.quarantine = quarantine }

        subscript<Value>(dynamicMember path: KeyPath<Quarantine, Value>) -> Value { quarantine[keyPath: path] }

        func recordWaitingSuspect(at now: MonotonicClock.Instant) { quarantine.recordWaitingSuspect(at: now) }

        func wantsSuspect(holdsNothing: Bool, at now: MonotonicClock.Instant) -> Bool {
            quarantine.wantsSuspect(holdsNothing: holdsNothing, at: now)
        }

        func claimed(_ found: Bool, at now: MonotonicClock.Instant) { quarantine.claimed(found, at: now) }
    }

    @Test("begins when a suspect waits, and lasts until it has run")
    func course() {
        let quarantine = Subject(Quarantine(waitLimit: .seconds(30), at: start))
        #expect(quarantine.acceptsJobs)
        #expect(!quarantine.wantsSuspect(holdsNothing: true, at: start))
        quarantine.recordWaitingSuspect(at: start)
        #expect(!quarantine.acceptsJobs)
        #expect(!quarantine.wantsSuspect(holdsNothing: false, at: start + .seconds(1)))
        #expect(quarantine.wantsSuspect(holdsNothing: true, at: start + .seconds(2)))
        quarantine.claimed(true, at: start + .seconds(2))
        #expect(!quarantine.wantsSuspect(holdsNothing: false, at: start + .seconds(3)))
        #expect(!quarantine.acceptsJobs)
        #expect(!quarantine.wantsSuspect(holdsNothing: true, at: start + .seconds(12)))
        #expect(quarantine.acceptsJobs)
        // The worker was in quarantine for ten seconds, so it does other work for ten.
        quarantine.recordWaitingSuspect(at: start + .seconds(21))
        #expect(quarantine.acceptsJobs)
        quarantine.recordWaitingSuspect(at: start + .seconds(22))
        #expect(!quarantine.acceptsJobs)
    }

    @Test("goes on for a second while suspects are quick")
    func row() {
        let quarantine = Subject(Quarantine(waitLimit: .seconds(30), at: start))
        quarantine.recordWaitingSuspect(at: start)
        var time = start
        while quarantine.wantsSuspect(holdsNothing: true, at: time) {
            quarantine.claimed(true, at: time)
            time += .milliseconds(100)
        }
        #expect(time == start + .seconds(1))
        #expect(quarantine.acceptsJobs)
    }

    @Test("ends when no suspect is left")
    func gone() {
        let quarantine = Subject(Quarantine(waitLimit: .seconds(30), at: start))
        quarantine.recordWaitingSuspect(at: start)
        #expect(quarantine.wantsSuspect(holdsNothing: true, at: start))
        quarantine.claimed(false, at: start)
        #expect(quarantine.acceptsJobs)
    }

    @Test("is given up if the held jobs do not end, and starts again after twice as long a wait")
    func waitLimit() {
        let quarantine = Subject(Quarantine(waitLimit: .seconds(30), at: start))
        quarantine.recordWaitingSuspect(at: start)
        #expect(!quarantine.wantsSuspect(holdsNothing: false, at: start + .seconds(29)))
        #expect(!quarantine.acceptsJobs)
        #expect(!quarantine.wantsSuspect(holdsNothing: false, at: start + .seconds(30)))
        #expect(quarantine.acceptsJobs)
        quarantine.recordWaitingSuspect(at: start + .seconds(59))
        #expect(quarantine.acceptsJobs)
        quarantine.recordWaitingSuspect(at: start + .seconds(60))
        #expect(!quarantine.wantsSuspect(holdsNothing: false, at: start + .seconds(119)))
        #expect(!quarantine.acceptsJobs)
        #expect(!quarantine.wantsSuspect(holdsNothing: false, at: start + .seconds(120)))
        #expect(quarantine.acceptsJobs)
    }
}
