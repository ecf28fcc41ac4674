import Logging

// This is metadata with which the log can trace each job. A job is named with its lease, as `id/lease`.

extension Claim {
    func metadata(_ jobs: Output) -> Logger.Metadata {
        ["worker": "\(worker)", "jobs": .array(jobs.map { "\($0.job.id)/\($0.job.lease)" })]
    }
}

extension ClaimSuspects {
    func metadata(_ jobs: Output) -> Logger.Metadata {
        ["worker": "\(worker)", "jobs": .array(jobs.map { "\($0.job.id)/\($0.job.lease)" })]
    }
}

extension Settle {
    func metadata(_ answer: Output) -> Logger.Metadata {
        [
            "worker": "\(worker)",
            "jobs": .array(runs.map { "\($0.id)/\($0.lease)/\($0.ending.outcomeClass.rawValue)" }),
            "stale": .array(answer.stale.map { "\($0)" }),
        ]
    }
}
