/// Something for the consumer's connection to do: one round trip.
struct Request: Sendable {
    /// Grows with each request.
    typealias ID = Int

    enum Work: Sendable {
        /// Claims, in a transaction that does not wait for the disk, and behind it settles or flushes, which does. Either
        /// half may be missing; with a claim and nothing to settle it flushes.
        case exchange(Claim?, Settle?)
        /// Settles one run by itself, of a batch that was refused.
        case settleAlone(Settle)
        /// Gives back claims in this worker's name that it never heard of.
        case reconcile(Reconcile)
        /// Asks for wake-ups, or for none.
        case sleep(Sleep)
        /// Tells that this worker polls hot kinds, so that nobody needs to be woken for them.
        case poll(Attend)
        /// Claims a job that must run alone.
        case claimSuspects(ClaimSuspects)
        /// Has the jobs looked at one by one that a refused claim asked for.
        case examine(DeadLetterUnreadable)

        /// What it settles.
        var settle: Settle? {
            switch self {
            case .exchange(_, let settle): settle
            case .settleAlone(let settle): settle
            case .reconcile, .sleep, .poll, .claimSuspects, .examine: nil
            }
        }
    }

    let id: ID
    let work: Work
}
