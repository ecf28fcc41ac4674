/// How many jobs a claim asks for at most: as many as there is room for, unless claims came to too many bytes or were refused.
struct ClaimLimit {
    /// nil: no limit.
    private(set) var most: Int?

    /// A claim of so many jobs was refused: the next asks for half as many, down to one. So the claims of all that can be
    /// read go on.
    mutating func refused(_ total: Int) { most = max(1, min(total, most ?? total) / 2) }

    /// A claim was answered. Where its jobs came to all the bytes that it may have, the next asks for twice as many as those
    /// at most; where they did not, the limit doubles until it is none.
    mutating func answered(_ count: Int, bytes: Int, of claim: Claim) {
        if claim.isFull(with: bytes) {
            most = max(1, 2 * count)
        } else if let last = most, count >= claim.total {
            most = last < HeldJobs.mostAhead ? 2 * last : nil
        }
    }
}
