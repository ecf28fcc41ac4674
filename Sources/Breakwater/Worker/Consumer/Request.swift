/// Something for the consumer's connection to do: one round trip.
struct Request: Sendable {
    /// Grows with each request.
    typealias ID = Int

    enum Work: Sendable {
        /// Claims in a transaction that does not wait for the disk, and then settles or flushes in one that does.
        /// Either half may be missing; with a claim and nothing to settle it flushes.
        case exchange(Claim?, Settle?)
        /// Settles one run of a refused batch by itself.
        case settleAlone(Settle)
        /// Gives back claims in this worker's name whose answers it never received.
        case reconcile(Reconcile)
        /// Asks for wake-ups, or for none.
        case sleep(Sleep)
        /// Says that this worker polls hot kinds, so that their inserts need not notify a sleeping worker.
        case poll(PollHotKinds)
        /// Claims a job that must run alone.
        case claimSuspects(ClaimSuspects)
        /// Examines the jobs that a refused claim asked for, one by one.
        case examine(DeadLetterUnreadable)

        /// The settle in this request, if there is one.
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
