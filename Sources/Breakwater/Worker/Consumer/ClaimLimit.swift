/// The most jobs that a claim asks for. There is no limit unless a claim reached its bytes, or was refused.
struct ClaimLimit {
    /// nil: no limit.
    private(set) var most: Int?

    /// A claim was refused. The next one asks for half as many jobs, and at least for one, so that the readable ones
    /// run.
    mutating func refused(_ total: Int) { most = max(1, min(total, most ?? total) / 2) }

    /// A claim was answered. If it reached its bytes, the next one asks for at most twice as many jobs as it gave.
    /// Otherwise the limit doubles until there is none.
    mutating func answered(_ count: Int, bytes: Int, of claim: Claim) {
        if claim.isFull(with: bytes) {
            most = max(1, 2 * count)
        } else if let last = most, count >= claim.total {
            most = last < HeldJobs.mostAhead ? 2 * last : nil
        }
    }
}
