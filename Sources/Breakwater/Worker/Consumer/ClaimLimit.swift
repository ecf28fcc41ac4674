/// The most jobs that a claim asks for. There is no limit unless a claim reached its byte limit or was refused.
struct ClaimLimit {
    /// The limit; nil for none.
    private(set) var most: Int?

    /// Records that a claim was refused. The next one asks for half as many jobs, but for at least one, so that the
    /// readable jobs run.
    mutating func refused(_ total: Int) { most = max(1, min(total, most ?? total) / 2) }

    /// Records that a claim was answered. If it reached its byte limit, the next one asks for at most twice as many
    /// jobs as it returned. Otherwise the limit doubles until it is removed.
    mutating func answered(_ count: Int, bytes: Int, of claim: Claim) {
        if claim.isFull(with: bytes) {
            most = max(1, 2 * count)
        } else if let last = most, count >= claim.total {
            most = last < HeldJobs.mostAhead ? 2 * last : nil
        }
    }
}
