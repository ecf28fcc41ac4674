/// A metric that a worker emits, with its name, its form and its labels.
///
/// ``all`` lists all of them. The documentation page on observability lists them too, and a test compares the two.
/// Names follow Prometheus's conventions: units are seconds, and counters end in `_total`. A label's value is a kind, a
/// queue, a circuit or a schedule of some configuration, a word from a fixed list, or one of the first 50 names of a circuit's
/// failures. Further names become `other`, so that the number of series is bounded.
public struct Metric: Sendable, Hashable {
    /// The form of a metric's values.
    public enum Form: String, Sendable {
        /// A counter, which only grows while the process lives.
        case counter
        /// A current value.
        case gauge
        /// A histogram of seconds, in fixed buckets from 5 ms to 300 s.
        case seconds
        /// A histogram of sizes, in fixed buckets from 1 to 2000.
        case sizes
    }

    /// The scope of a metric's values.
    public enum Scope: String, Sendable {
        /// The values of one worker. Add those of all workers.
        case worker
        /// The values of the whole fleet, which every worker reports. Take the maximum over all workers, never the sum.
        case fleet
    }

    /// The name, as in Prometheus.
    public var name: String
    /// The form of the values.
    public var form: Form
    /// The names of its labels.
    public var labels: [String]
    /// The meaning for people. It ends with how to aggregate the metric, unless its values are added.
    public var help: String

    /// The scope of the values.
    public var scope: Scope { name.hasPrefix("breakwater_fleet_") ? .fleet : .worker }

    init(_ name: String, _ form: Form, _ labels: [String] = [], _ help: String) {
        self.name = name
        self.form = form
        self.labels = labels
        self.help = help
        if scope == .fleet { self.help += " Fleet-wide: every worker tells the same; aggregate with max, not sum." }
    }
}

// The metrics of a single worker.
extension Metric {
    static let jobs = Metric(
        "breakwater_jobs_total",
        .counter,
        ["queue", "kind", "outcome"],
        "Runs that were settled, by how they ended: succeeded, failed, unavailable, throttled, unable, discarded, snoozed, released."
    )
    static let run = Metric(
        "breakwater_job_run_seconds",
        .seconds,
        ["queue", "kind"],
        "How long handlers ran, for runs that were settled and not released."
    )
    static let wait = Metric(
        "breakwater_job_wait_seconds",
        .seconds,
        ["queue", "kind"],
        "How long jobs were ready before their handler began, for runs that were settled and not released."
    )
    static let slots = Metric("breakwater_slots", .gauge, "How many handlers this worker may run at once.")
    static let busySlots = Metric("breakwater_busy_slots", .gauge, ["kind"], "How many handlers run now.")
    static let claimedJobs = Metric(
        "breakwater_claimed_jobs",
        .gauge,
        ["kind"],
        "Jobs that this worker has claimed and not yet started."
    )
    static let ignoredCancellations = Metric(
        "breakwater_ignored_cancellations_total",
        .counter,
        ["kind"],
        "Runs that went on for more than ten seconds after they were cancelled."
    )
    static let unresponsive = Metric(
        "breakwater_unresponsive_runs",
        .gauge,
        "Runs that were cancelled more than ten seconds ago and have not ended."
    )
    static let call = Metric(
        "breakwater_call_seconds",
        .seconds,
        ["call"],
        "How long round trips to the database took: claim, settle, settle_and_claim, beat, maintain."
    )
    static let batch = Metric(
        "breakwater_batch_size",
        .sizes,
        ["call"],
        "How many jobs one claim gave, empty claims left out, and how many runs one settle recorded."
    )
    static let leasesLost = Metric(
        "breakwater_leases_lost_total",
        .counter,
        "How often this worker could not beat in time and gave up its jobs."
    )
    static let staleResults = Metric(
        "breakwater_stale_results_total",
        .counter,
        "Results that changed nothing, because this worker no longer held the job."
    )
    static let rescued = Metric(
        "breakwater_rescued_jobs_total",
        .counter,
        "Jobs of lost workers that this worker, while it led, gave back."
    )
    static let reconciled = Metric(
        "breakwater_reconciled_jobs_total",
        .counter,
        "Jobs given back because the claim that took them was never answered."
    )
    static let promoted = Metric(
        "breakwater_promoted_jobs_total",
        .counter,
        "Scheduled and retrying jobs that this worker, while it led, made ready."
    )
    static let fellBack = Metric(
        "breakwater_fallback_jobs_total",
        .counter,
        "Jobs behind open circuits that this worker, while it led, ended by their fallback."
    )
    static let leads = Metric("breakwater_leader", .gauge, "1 while this worker does the fleet's chores, else 0.")
    static let calls = Metric(
        "breakwater_circuit_calls_total",
        .counter,
        ["circuit", "effect"],
        "Runs as their circuit counts them: succeeded, failed, tripped, ignored. A circuit of keys goes by its kind."
    )
    static let circuitFailures = Metric(
        "breakwater_circuit_failures_total",
        .counter,
        ["circuit", "name"],
        "Failures that circuits count, by name, such as http.503. The first 50 names of a circuit; the rest are other."
    )
    static let slowCalls = Metric(
        "breakwater_circuit_slow_calls_total",
        .counter,
        ["circuit"],
        "Runs that took longer than their circuit allows."
    )
    static let probes = Metric(
        "breakwater_circuit_probes_total",
        .counter,
        ["circuit", "effect"],
        "Probes of half-open circuits, by what they told the circuit: succeeded, failed, tripped, ignored."
    )
    static let reconnects = Metric(
        "breakwater_database_reconnects_total",
        .counter,
        ["loop"],
        "Database connections that were lost or could not be made, by what they are for: claims, beats, chores, wake-ups."
    )
    static let connected = Metric(
        "breakwater_database_connected",
        .gauge,
        ["loop"],
        "1 while the connection for claims, beats, chores or wake-ups is up, else 0."
    )
    static let sampleFailures = Metric(
        "breakwater_sample_failures_total",
        .counter,
        "How often this worker asked for the fleet's numbers without an answer; the last ones stay."
    )
    package static let spans = Metric(
        "breakwater_spans_total",
        .counter,
        ["result"],
        "Spans that were sent to a collector, that it refused (failed), or that there was no room for (dropped)."
    )
    static let build = Metric("breakwater_build_info", .gauge, ["version"], "Always 1.")
}

// The metrics of the fleet, which are queried from the database every 15 seconds.
extension Metric {
    static let fleetJobs = Metric(
        "breakwater_fleet_jobs",
        .gauge,
        ["queue", "kind", "state"],
        """
        Jobs by state: ready, running, scheduled, retrying, parked (behind the circuit of a key), dependent (on other \
        jobs). Counting stops at 10000 in a lane. It stops at 50000 in all lanes together; beyond those, at 100 in \
        each lane.
        """
    )
    static let fleetOldest = Metric(
        "breakwater_fleet_oldest_seconds",
        .gauge,
        ["queue", "kind", "state"],
        """
        For how long the oldest job of that state has been ready, or due. Among the first 10000 of its lane; 0 where \
        there is none.
        """
    )
    static let fleetDeadLetters = Metric(
        "breakwater_fleet_dead_letters",
        .gauge,
        ["kind"],
        "Dead letters, counted up to 10000 a kind."
    )
    static let fleetRecentDeadLetters = Metric(
        "breakwater_fleet_recent_dead_letters",
        .gauge,
        ["kind", "reason"],
        "Dead letters of the last 5 minutes, counted up to 10000."
    )
    static let fleetSuspects = Metric(
        "breakwater_fleet_suspects",
        .gauge,
        "Jobs whose worker was lost at least twice in a row while it ran them, and that must run apart from others; up to 10000."
    )
    static let fleetCircuit = Metric(
        "breakwater_fleet_circuit_state",
        .gauge,
        ["circuit", "state"],
        "1 for the state in which a circuit is (closed, open or half_open), 0 for the others."
    )
    static let fleetKeyedCircuits = Metric(
        "breakwater_fleet_keyed_circuits",
        .gauge,
        ["kind", "state"],
        "How many of a kind's circuits, one for each key, are in a state; counted up to 10000."
    )
    static let fleetWaiting = Metric(
        "breakwater_fleet_circuit_waiting_jobs",
        .gauge,
        ["circuit"],
        "Jobs that wait behind a circuit that is not closed, counted up to 10000 a kind."
    )
    static let fleetTransitions = Metric(
        "breakwater_fleet_circuit_transitions_total",
        .counter,
        ["circuit", "from", "to"],
        "Transitions of circuits since this worker started, those made by people included."
    )
    static let fleetProbes = Metric(
        "breakwater_fleet_live_probes",
        .gauge,
        ["circuit"],
        "Probe leases that are out."
    )
    static let fleetSuspended = Metric(
        "breakwater_fleet_suspended_workers",
        .gauge,
        ["circuit"],
        "Workers that get no jobs of a circuit: their calls failed while others succeeded, or they cannot run such jobs."
    )
    static let fleetLimitRunning = Metric(
        "breakwater_fleet_limit_running",
        .gauge,
        ["limit", "type"],
        "Jobs that run under a limit, an order of keys or fair shares, by their weights."
    )
    static let fleetLimitHeldBack = Metric(
        "breakwater_fleet_limit_held_back",
        .gauge,
        ["limit", "type"],
        "Jobs that a limit, an order of keys or fair shares holds back; counted up to 10,000 for each kind."
    )
    static let fleetLimitConcurrency = Metric(
        "breakwater_fleet_limit_concurrency",
        .gauge,
        ["limit", "type"],
        "How many jobs a limit lets run at once, at this moment if it is adaptive."
    )
    static let fleetWorkers = Metric(
        "breakwater_fleet_workers",
        .gauge,
        ["state"],
        "Workers: running, draining, or silent for longer than their lease."
    )
    static let fleetSlots = Metric(
        "breakwater_fleet_slots",
        .gauge,
        "Handlers that all running workers may run at once."
    )
    static let fleetBusySlots = Metric("breakwater_fleet_busy_slots", .gauge, "Handlers that run in all live workers.")
    static let fleetPauses = Metric("breakwater_fleet_pauses", .gauge, ["scope"], "Paused queues and kinds.")
    static let fleetSchedules = Metric(
        "breakwater_fleet_schedules",
        .gauge,
        ["state"],
        "Schedules: active, paused, or failing to enqueue their jobs."
    )
    static let fleetScheduleLateness = Metric(
        "breakwater_fleet_schedule_lateness_seconds",
        .gauge,
        ["schedule"],
        """
        How late the job of a schedule's last slot was enqueued, or for how long the next slot has been due. The first \
        200 schedules by name.
        """
    )
    static let fleetScheduleSlots = Metric(
        "breakwater_fleet_schedule_slots_total",
        .counter,
        ["schedule", "outcome"],
        """
        Slots of a schedule since this worker started: enqueued, skipped because an earlier job had not ended, or \
        missed. The first 200 schedules by name.
        """
    )
    static let fleetSampledAt = Metric(
        "breakwater_fleet_sample_timestamp_seconds",
        .gauge,
        "When the fleet's numbers were taken, in seconds since 1970 by the database's clock."
    )
}

extension Metric {
    /// Every metric that the library emits.
    public static let all: [Metric] = [
        jobs, run, wait, slots, busySlots, claimedJobs, ignoredCancellations, unresponsive, call, batch, leasesLost,
        staleResults, rescued, reconciled,
        promoted, fellBack, leads, calls, circuitFailures, slowCalls, probes, reconnects, connected, sampleFailures,
        spans, build,
        fleetJobs, fleetOldest, fleetDeadLetters, fleetRecentDeadLetters, fleetSuspects, fleetCircuit,
        fleetKeyedCircuits, fleetWaiting, fleetTransitions, fleetProbes, fleetSuspended,
        fleetLimitRunning, fleetLimitHeldBack, fleetLimitConcurrency, fleetWorkers, fleetSlots,
        fleetBusySlots, fleetPauses, fleetSchedules, fleetScheduleLateness, fleetScheduleSlots, fleetSampledAt,
    ]

    private init(_ name: String, _ form: Form, _ help: String) { self.init(name, form, [], help) }
}
