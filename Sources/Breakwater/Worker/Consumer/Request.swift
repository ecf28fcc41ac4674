/// A request for the consumer's connection, which takes one round trip.
struct Request: Sendable {
    /// The number of a request. It increases with each request.
    typealias ID = Int

    enum Work: Sendable {
        /// Claims in a transaction that does not wait for the disk, and then settles or flushes in one that does.
        /// Either half may be missing. A claim without a settle is followed by a flush.
        case exchange(Claim?, Settle?)
        /// Settles one run of a refused batch by itself.
        case settleAlone(Settle)
        /// Releases the claims of this worker whose answers it never received.
        case reconcile(Reconcile)
        /// Asks for notifications, or for none.
        case sleep(Sleep)
        /// Records that this worker polls hot kinds, so that their inserts need not notify a worker.
        case poll(PollHotKinds)
        /// Claims suspects, which must run apart from other jobs.
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
