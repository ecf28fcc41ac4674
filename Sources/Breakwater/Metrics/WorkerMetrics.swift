import Metrics

/// The metrics of one worker: all handles, which are made once, and the methods that record.
///
/// Nothing here accesses the database. Runs are recorded in batches when a batch is settled, and only by the claim
/// loop.
final class WorkerMetrics: Sendable {
    /// A round trip to the database whose time is recorded.
    enum Call: String, CaseIterable {
        case claim, settle, beat, maintain
        case settleAndClaim = "settle_and_claim"
    }

    /// The purposes of a worker's connections.
    enum Loop: String, CaseIterable {
        case claims, beats, chores
        case wakeUps = "wake-ups"
    }

    private let factory: any MetricsFactory
    /// Whether the metrics are recorded, rather than sent to a no-op factory.
    let isWanted: Bool
    private let calls: [Call: Metrics.Timer]
    private let claimBatch: Recorder
    private let settleBatch: Recorder
    private let busySlots: [String: Gauge]
    private let claimedJobs: [String: Gauge]
    private let ignoredCancellations: [String: Counter]
    private let unresponsive: Gauge
    private let reconnects: [Loop: Counter]
    private let connected: [Loop: Gauge]
    private let leads: Gauge
    private let leasesLost: Counter
    private let staleResults: Counter
    private let rescued: Counter
    private let reconciled: Counter
    private let promoted: Counter
    private let fellBack: Counter

    init(_ configuration: WorkerConfiguration, in factory: any MetricsFactory) {
        self.factory = factory
        isWanted = !(factory is NOOPMetricsHandler)
        calls = Dictionary(
            uniqueKeysWithValues: Call.allCases.map { ($0, Metric.call.timer($0.rawValue, in: factory)) }
        )
        claimBatch = Metric.batch.recorder("claim", in: factory)
        settleBatch = Metric.batch.recorder("settle", in: factory)
        let kinds = configuration.handlers.map(\.kind)
        busySlots = Dictionary(kinds.map { ($0, Metric.busySlots.gauge($0, in: factory)) }) { first, _ in first }
        claimedJobs = Dictionary(kinds.map { ($0, Metric.claimedJobs.gauge($0, in: factory)) }) { first, _ in first }
        ignoredCancellations = Dictionary(
            kinds.map { ($0, Metric.ignoredCancellations.counter($0, in: factory)) }
        ) { first, _ in first }
        unresponsive = Metric.unresponsive.gauge(in: factory)
        let loops = Loop.allCases
        reconnects = Dictionary(
            uniqueKeysWithValues: loops.map { ($0, Metric.reconnects.counter($0.rawValue, in: factory)) }
        )
        connected = Dictionary(
            uniqueKeysWithValues: loops.map { ($0, Metric.connected.gauge($0.rawValue, in: factory)) }
        )
        leads = Metric.leads.gauge(in: factory)
        leasesLost = Metric.leasesLost.counter(in: factory)
        staleResults = Metric.staleResults.counter(in: factory)
        rescued = Metric.rescued.counter(in: factory)
        reconciled = Metric.reconciled.counter(in: factory)
        promoted = Metric.promoted.counter(in: factory)
        fellBack = Metric.fellBack.counter(in: factory)
        Metric.slots.gauge(in: factory).record(configuration.concurrency)
        Metric.build.gauge(breakwaterVersion, in: factory).record(1)
    }

    // MARK: Calls

    func record(_ call: Call, since start: MonotonicClock.Instant) {
        calls[call]?.recordNanoseconds((MonotonicClock.Instant.now - start).nanoseconds)
    }

    func claimed(_ count: Int) {
        if count > 0 { claimBatch.record(count) }
    }

    // MARK: State

    func record(_ held: (occupancy: [HeldJobs.Occupancy], unresponsive: Int)) {
        unresponsive.record(held.unresponsive)
        for kind in held.occupancy {
            busySlots[kind.kind]?.record(kind.running)
            claimedJobs[kind.kind]?.record(kind.waiting)
        }
    }

    func record(_ loop: Loop, isConnected: Bool) {
        connected[loop]?.record(isConnected ? 1 : 0)
    }

    func reconnects(_ loop: Loop) { reconnects[loop]?.increment() }

    func leaseLost() { leasesLost.increment() }

    func ignoredCancellation(kind: String) { ignoredCancellations[kind]?.increment() }

    func reconciled(_ jobs: Int) { reconciled.increment(by: jobs) }

    func record(_ chores: Maintain.Output) {
        leads.record(chores.leads ? 1 : 0)
        rescued.increment(by: chores.rescued)
        promoted.increment(by: chores.promoted)
        fellBack.increment(by: chores.fellBack)
    }

    // MARK: Runs

    /// Records a batch that was settled.
    ///
    /// - Parameters:
    ///   - runs: The batch.
    ///   - stale: The ids of stale runs, which changed nothing.
    ///   - cells: The handles used so far, which the caller keeps.
    func settled(_ runs: [FinishedRun], stale: [Int64], in cells: inout RunMetrics) {
        guard isWanted, !runs.isEmpty else { return }
        settleBatch.record(runs.count)
        staleResults.increment(by: stale.count)
        cells.record(runs, stale: Set(stale), in: factory)
    }
}

extension Duration {
    /// The duration in whole nanoseconds, as metrics record times.
    var nanoseconds: Int64 { components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000 }
}
