import Testing

@testable import Breakwater

@Suite("Solitude")
struct SolitudeTests {
    private let start = MonotonicClock.Instant.now

    /// A solitude to be asked within expectations, which take no value that changes.
    @dynamicMemberLookup
    private final class Subject {
        private var solitude: Solitude

        init(_ solitude: Solitude) { self.solitude = solitude }

        subscript<Value>(dynamicMember path: KeyPath<Solitude, Value>) -> Value { solitude[keyPath: path] }

        func suspectWaits(at now: MonotonicClock.Instant) { solitude.suspectWaits(at: now) }

        func wantsSuspect(holdsNothing: Bool, at now: MonotonicClock.Instant) -> Bool {
            solitude.wantsSuspect(holdsNothing: holdsNothing, at: now)
        }

        func claimed(_ found: Bool, at now: MonotonicClock.Instant) { solitude.claimed(found, at: now) }
    }

    @Test("begins when a suspect waits, and lasts until it has run")
    func course() {
        let solitude = Subject(Solitude(patience: .seconds(30), at: start))
        #expect(solitude.isSociable)
        #expect(!solitude.wantsSuspect(holdsNothing: true, at: start))
        solitude.suspectWaits(at: start)
        #expect(!solitude.isSociable)
        #expect(!solitude.wantsSuspect(holdsNothing: false, at: start + .seconds(1)))
        #expect(solitude.wantsSuspect(holdsNothing: true, at: start + .seconds(2)))
        solitude.claimed(true, at: start + .seconds(2))
        #expect(!solitude.wantsSuspect(holdsNothing: false, at: start + .seconds(3)))
        #expect(!solitude.isSociable)
        #expect(!solitude.wantsSuspect(holdsNothing: true, at: start + .seconds(12)))
        #expect(solitude.isSociable)
        // It was away for ten seconds, so it works for ten.
        solitude.suspectWaits(at: start + .seconds(21))
        #expect(solitude.isSociable)
        solitude.suspectWaits(at: start + .seconds(22))
        #expect(!solitude.isSociable)
    }

    @Test("goes on for a second while suspects are quick")
    func row() {
        let solitude = Subject(Solitude(patience: .seconds(30), at: start))
        solitude.suspectWaits(at: start)
        var time = start
        while solitude.wantsSuspect(holdsNothing: true, at: time) {
            solitude.claimed(true, at: time)
            time += .milliseconds(100)
        }
        #expect(time == start + .seconds(1))
        #expect(solitude.isSociable)
    }

    @Test("ends when there is no suspect any more")
    func gone() {
        let solitude = Subject(Solitude(patience: .seconds(30), at: start))
        solitude.suspectWaits(at: start)
        #expect(solitude.wantsSuspect(holdsNothing: true, at: start))
        solitude.claimed(false, at: start)
        #expect(solitude.isSociable)
    }

    @Test("is given up when what is held does not end, and waited for twice as long the next time")
    func patience() {
        let solitude = Subject(Solitude(patience: .seconds(30), at: start))
        solitude.suspectWaits(at: start)
        #expect(!solitude.wantsSuspect(holdsNothing: false, at: start + .seconds(29)))
        #expect(!solitude.isSociable)
        #expect(!solitude.wantsSuspect(holdsNothing: false, at: start + .seconds(30)))
        #expect(solitude.isSociable)
        solitude.suspectWaits(at: start + .seconds(59))
        #expect(solitude.isSociable)
        solitude.suspectWaits(at: start + .seconds(60))
        #expect(!solitude.wantsSuspect(holdsNothing: false, at: start + .seconds(119)))
        #expect(!solitude.isSociable)
        #expect(!solitude.wantsSuspect(holdsNothing: false, at: start + .seconds(120)))
        #expect(solitude.isSociable)
    }
}
