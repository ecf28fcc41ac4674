extension HeldJobs {
    /// The reason why a run was cancelled. It decides what the end of the run means.
    enum CancelReason {
        case timeout, shutdown, leaseLost
        /// A user has cancelled the job.
        case requested
    }

    /// A job to start, and its slot.
    struct Start {
        var job: Job
        /// The index of the slot. A later run in the same slot has another serial number.
        var slot: Int
        var serial: Int
        var time: Instant
    }

    struct Running {
        var job: Job
        var serial: Int
        var kind: Int
        var payloadBytes: Int
        var start: Instant
        var deadline: Instant
        var cancelReason: CancelReason?
        var cancelledAt: Instant?
        var isReported = false
    }

    /// The number of jobs to claim.
    struct ClaimPlan {
        var kinds: [(kind: String, count: Int, concurrency: Int)]
        var total: Int
        /// The order of kinds among lanes of equal importance.
        var rotation: [String]
    }

    /// How many jobs of a kind are running, and how many are claimed and not started.
    struct Occupancy {
        var kind: String
        var running: Int
        var waiting: Int
    }

    var occupancy: [Occupancy] {
        places.map { Occupancy(kind: $0, running: kinds[$1].running, waiting: kinds[$1].held - kinds[$1].running) }
    }
}
