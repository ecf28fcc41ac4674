import Testing

@testable import Breakwater

@Suite("A worker's lease")
struct LeaseTests {
    private let start = MonotonicClock.Instant.now

    /// How long a lease of 20 seconds is sure to last, given proofs at these seconds that the database is away.
    private func sureFor(_ proofs: [Double]) -> Duration {
        var lease = Lease(length: .seconds(20), heldSince: start)
        for proof in proofs { lease.databaseIsAbsent(at: start + .seconds(proof)) }
        return lease.sureUntil - start
    }

    @Test("lasts three quarters of its length without a heartbeat")
    func silence() { #expect(sureFor([]) == .seconds(15)) }

    @Test("goes on while it is proven that the database is away, except for two seconds of that time")
    func absence() {
        #expect(sureFor([1]) == .seconds(15))
        #expect(sureFor([1, 2, 3]) == .seconds(15))
        #expect(sureFor([1, 2, 3, 4]) == .seconds(16))
        #expect(sureFor((1...61).map(Double.init)) == .seconds(15 + 58))
    }

    @Test("does not go on for a time in which nothing proves that the database was away")
    func gap() {
        #expect(sureFor([1, 2, 3, 4, 8]) == .seconds(20))
        #expect(sureFor([1, 2, 3, 4, 8.1]) == .seconds(16))
        #expect(sureFor([1, 2, 3, 4, 9, 11, 13]) == .seconds(18))
    }

    @Test("does not come back without a heartbeat if it was already in doubt")
    func doubt() { #expect(sureFor([16, 17, 18, 19, 20]) == .seconds(15)) }

    @Test("begins anew with a heartbeat")
    func heartbeat() {
        var lease = Lease(length: .seconds(20), heldSince: start)
        for second in 1...5 { lease.databaseIsAbsent(at: start + .seconds(second)) }
        lease.regain(asOf: start + .seconds(6))
        #expect(lease.sureUntil == start + .seconds(21))
        // An absence that ended at that time does not extend the lease.
        lease.databaseIsAbsent(at: start + .seconds(7))
        lease.databaseIsAbsent(at: start + .seconds(9))
        #expect(lease.sureUntil == start + .seconds(21))
    }
}
