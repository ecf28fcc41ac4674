public import Libpq
public import Logging
public import Metrics
public import ServiceLifecycle

/// Reports the fleet's numbers as a worker sees them: depth, ages, circuits, dead letters, workers.
///
/// They come from one sample that all workers share. It is taken at most every ten seconds, and its cost is bounded for
/// any number of jobs. A connection is opened for each query and closed again. Failures are counted, and the last
/// numbers are kept. The sample's time shows how old they are.
public struct FleetMetrics: Service {
    /// The timeout of a sample.
    static let timeout = Duration.seconds(5)
    /// A transition may become visible after others whose ids are higher by at most this number.
    private static let lateness: Int64 = 200

    private let database: ConnectionOptions
    private let interval: Duration
    private let maxAge: Duration
    private let logger: Logger
    private let factory: any MetricsFactory

    /// - Parameters:
    ///   - database: The database with the jobs.
    ///   - interval: The time between two queries. Defaults to 15 seconds.
    ///   - maxAge: The age up to which a sample of another worker is reused. Defaults to 10 seconds.
    ///   - logger: Receives the reasons of failed samples at debug.
    ///   - metrics: The factory of the metrics; see ``Metric``. Defaults to the one that `MetricsSystem` was
    ///     bootstrapped with.
    public init(
        database: ConnectionOptions,
        interval: Duration = .seconds(15),
        maxAge: Duration = .seconds(10),
        logger: Logger,
        metrics: any MetricsFactory = MetricsSystem.factory
    ) {
        self.database = database
        self.interval = interval
        self.maxAge = maxAge
        self.logger = logger
        factory = metrics
    }

    /// Reports until shutdown.
    public func run() async throws {
        await cancelWhenGracefulShutdown {
            var report = Report(factory: factory)
            let failures = Metric.sampleFailures.counter(in: factory)
            while !Task.isCancelled {
                do {
                    try await sample(&report)
                } catch {
                    guard !Task.isCancelled else { return }
                    failures.increment()
                    logger.debug("the fleet's numbers could not be had", metadata: ["error": "\(error)"])
                }
                // The pause is random, so that the workers of a fleet do not all query at once.
                try? await Task.sleep(for: interval * Double.random(in: 0.8...1.2))
            }
        }
    }

    private func sample(_ report: inout Report) async throws(PostgresError) {
        let connection = try await Connection.connect(database, logger: logger)
        do throws(PostgresError) {
            try await connection.useOwnSettings()
            let sample = try await connection.call(SampleFleet(maxAge: maxAge), timeout: Self.timeout)
            if let sample { report.set(sample) }
            let after = report.newestTransition.map { $0 - Self.lateness }
            report.count(try await connection.call(TransitionsAfter(id: after), timeout: Self.timeout))
            await connection.close()
        } catch {
            await connection.close()
            throw error
        }
    }
}

extension FleetMetrics {
    /// The handles, which are made when their labels first occur, and the values that were reported.
    struct Report {
        private struct Series: Hashable {
            var metric: Metric
            var values: [String]
        }

        let factory: any MetricsFactory
        private var gauges: [Series: Gauge] = [:]
        private var counters: [Series: Counter] = [:]
        /// The totals of the last sample that have been counted.
        private var totals: [Series: Int64] = [:]
        private(set) var newestTransition: Int64?
        /// The id of the newest transition when this report began. Earlier ones are not counted.
        private var beginning: Int64 = .max
        /// The ids of counted transitions, as far back as transitions are queried again.
        private var counted: Set<Int64> = []

        init(factory: any MetricsFactory) { self.factory = factory }

        /// Sets every gauge. A series that the sample no longer contains becomes 0.
        mutating func set(_ sample: FleetSample) {
            var values: [Series: Double] = [:]
            func set(_ metric: Metric, _ labels: String..., to value: Double?) {
                values[Series(metric: metric, values: labels)] = value ?? 0
            }
            for jobs in sample.jobs ?? [] {
                set(.fleetJobs, jobs.queue, jobs.kind, jobs.state, to: jobs.jobs)
                set(.fleetOldest, jobs.queue, jobs.kind, jobs.state, to: jobs.oldest)
            }
            for dead in sample.deadLetters ?? [] { set(.fleetDeadLetters, dead.kind, to: dead.jobs) }
            for dead in sample.recentDeadLetters ?? [] {
                set(.fleetRecentDeadLetters, dead.kind, dead.reason ?? "", to: dead.jobs)
            }
            for circuit in sample.circuits ?? [] {
                for state in ["closed", "open", "half_open"] {
                    set(.fleetCircuit, circuit.circuit, state, to: circuit.state == state ? 1 : 0)
                }
                // These counters are reported as 0 first. Otherwise Prometheus would not see the first increase.
                for (from, to) in [
                    ("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("half_open", "closed"),
                ] {
                    counter(circuit.circuit, from, to).increment(by: 0)
                }
                // The gauge is 0 unless the sample has a number, so that alerts can see it return to 0.
                set(.fleetWaiting, circuit.circuit, to: 0)
            }
            for keyed in sample.keyedCircuits ?? [] {
                set(.fleetKeyedCircuits, keyed.kind, keyed.state, to: keyed.circuits)
            }
            for waiting in sample.waiting ?? [] { set(.fleetWaiting, waiting.circuit, to: waiting.jobs) }
            for probes in sample.probes ?? [] { set(.fleetProbes, probes.circuit, to: probes.probes) }
            for suspended in sample.suspendedWorkers ?? [] {
                set(.fleetSuspended, suspended.circuit, to: suspended.workers)
            }
            for limit in sample.limits ?? [] {
                set(.fleetLimitRunning, limit.name, limit.type, to: limit.running)
                set(.fleetLimitHeldBack, limit.name, limit.type, to: limit.heldBack)
                if let concurrency = limit.concurrency {
                    set(.fleetLimitConcurrency, limit.name, limit.type, to: concurrency)
                }
            }
            for (state, count) in sample.workers { set(.fleetWorkers, state, to: count) }
            for (scope, count) in sample.pauses { set(.fleetPauses, scope, to: count) }
            for (state, count) in sample.schedules { set(.fleetSchedules, state, to: count) }
            for slots in sample.scheduleSlots ?? [] {
                set(.fleetScheduleLateness, slots.schedule, to: slots.lateness)
                count(slots)
            }
            set(.fleetSlots, to: sample.slots)
            set(.fleetBusySlots, to: sample.busySlots)
            set(.fleetSuspects, to: sample.suspects)
            set(.fleetSampledAt, to: sample.sampledAt)

            for series in gauges.keys where values[series] == nil { values[series] = 0 }
            for (series, value) in values {
                let gauge = gauges[series] ?? series.metric.gauge(series.values, in: factory)
                gauges[series] = gauge
                gauge.record(value)
            }
        }

        /// Counts the transitions that were not counted yet. Those before the first call are not counted.
        mutating func count(_ news: TransitionsAfter.Output) {
            for transition in news.transitions
            where transition.id > beginning && counted.insert(transition.id).inserted {
                counter(transition.circuit, transition.from, transition.to).increment()
            }
            guard let newest = news.newest else { return }
            if newestTransition == nil { beginning = newest }
            newestTransition = max(newest, newestTransition ?? newest)
            counted = counted.filter { $0 > newest - FleetMetrics.lateness }
        }

        /// Counts a schedule's slots since the last sample. Those before the first sample are not counted. The numbers
        /// start again if the schedule was removed and set again.
        private mutating func count(_ slots: FleetSample.ScheduleSlots) {
            for (outcome, total) in [
                ("enqueued", slots.enqueued), ("skipped", slots.skipped), ("missed", slots.missed),
            ] {
                let series = Series(metric: .fleetScheduleSlots, values: [slots.schedule, outcome])
                let counter = counters[series] ?? series.metric.counter(series.values, in: factory)
                counters[series] = counter
                let last = totals.updateValue(total, forKey: series) ?? total
                counter.increment(by: total >= last ? total - last : total)
            }
        }

        private mutating func counter(_ circuit: String, _ from: String, _ to: String) -> Counter {
            let series = Series(metric: .fleetTransitions, values: [circuit, from, to])
            let counter = counters[series] ?? series.metric.counter(series.values, in: factory)
            counters[series] = counter
            return counter
        }
    }
}
