import Libpq
public import Logging
public import Metrics
public import ServiceLifecycle
public import Tracing

/// Claims jobs, runs their handlers, and settles them, until it is shut down.
///
/// A worker is a `Service`. On graceful shutdown it claims nothing more, lets running handlers finish within the grace
/// time, cancels the others, releases the remaining jobs, and returns. It survives the loss of its database
/// connections, no matter for how long.
public struct Worker: Service {
    /// How long cancelled handlers may take to end before their jobs are released anyway.
    static let cancellationGrace = Duration.seconds(5)

    /// The settings of this worker.
    public var configuration: WorkerConfiguration
    /// Whether the worker is alive and ready, for health checks.
    public let health = WorkerHealth()
    private var loggers: WorkerLoggers
    private var metrics: any MetricsFactory
    private var tracer: any Tracer

    /// - Parameters:
    ///   - configuration: The worker's settings and its handlers.
    ///   - logger: The logger for all messages.
    ///   - metrics: The factory of the worker's metrics; see ``Metric``. Defaults to the one that `MetricsSystem` was
    ///     bootstrapped with.
    ///   - tracer: The tracer that makes a span of each run. Defaults to the one that `InstrumentationSystem` was
    ///     bootstrapped with.
    public init(
        configuration: WorkerConfiguration,
        logger: Logger,
        metrics: any MetricsFactory = MetricsSystem.factory,
        tracer: any Tracer = InstrumentationSystem.tracer
    ) {
        self.init(configuration: configuration, loggers: WorkerLoggers(logger), metrics: metrics, tracer: tracer)
    }

    /// - Parameters:
    ///   - configuration: The worker's settings and its handlers.
    ///   - loggers: The loggers by topic.
    ///   - metrics: The factory of the worker's metrics; see ``Metric``. Defaults to the one that `MetricsSystem` was
    ///     bootstrapped with.
    ///   - tracer: The tracer that makes a span of each run. Defaults to the one that `InstrumentationSystem` was
    ///     bootstrapped with.
    public init(
        configuration: WorkerConfiguration,
        loggers: WorkerLoggers,
        metrics: any MetricsFactory = MetricsSystem.factory,
        tracer: any Tracer = InstrumentationSystem.tracer
    ) {
        self.configuration = configuration
        self.loggers = loggers
        self.metrics = metrics
        self.tracer = tracer
    }

    private var logger: Logger { loggers.worker }

    /// Runs the worker until shutdown.
    ///
    /// - Throws: ``BreakwaterError`` when the configuration is invalid or the schema does not fit, `PostgresError` when
    ///   the database cannot be reached at the start. Later outages of the database are survived.
    public func run() async throws {
        try configuration.validate()
        let engine = try await register()
        health.started(lease: configuration.lease)
        logger.notice(
            "worker started",
            metadata: [
                "worker": "\(configuration.name)",
                "kinds": .array(configuration.handlers.map { .string($0.kind) }),
                "queues": .array(configuration.queues.map { .string($0) }),
                "concurrency": .stringConvertible(configuration.concurrency),
            ]
        )
        for handler in configuration.handlers { await handler.plugin.start(logger: loggers.handlers) }
        await withGracefulShutdownHandler {
            await work(engine)
        } onGracefulShutdown: {
            logger.notice("draining: nothing more is claimed")
            health.drains()
            engine.handle(.drain)
            engine.requestHeartbeat()
        }
        health.stopped()
        await leave(engine)
        await stopPlugins()
    }

    /// Ends what the plugins have kept between runs, all at the same time.
    private func stopPlugins() async {
        await withTaskGroup { group in
            for handler in configuration.handlers { group.addTask { await handler.plugin.stop() } }
        }
    }

    private func register() async throws -> Engine {
        let connection = try await Connection.connect(configuration.database, logger: loggers.database)
        do {
            try await connection.useWorkerSettings()
            try await Schema.check(on: connection)
            for handler in configuration.handlers {
                guard let plugin = handler.plugin as? any SettlingPlugin else { continue }
                try await plugin.prepare(
                    kind: handler.kind,
                    worker: connection,
                    database: configuration.database,
                    logger: loggers.handlers
                )
            }
            var configuration = configuration
            configuration.listens = mayListen(on: connection)
            if !configuration.schedules.isEmpty {
                try await connection.call(
                    SetSchedules(worker: configuration.name, schedules: configuration.schedules)
                )
            }
            let clock = MonotonicClock()
            let sent = clock.now
            let worker = try await connection.call(Register(configuration: configuration))
            await connection.close()
            return Engine(
                configuration: configuration,
                worker: worker,
                registeredAt: sent,
                clock: clock,
                loggers: loggers,
                metrics: WorkerMetrics(configuration, in: metrics),
                health: health,
                tracer: RunTracer(tracer)
            )
        } catch {
            await connection.close()
            throw error
        }
    }

    /// Whether to listen. On a session that a pooler shares, LISTEN would receive nothing and would outlast its client.
    private func mayListen(on connection: Connection) -> Bool {
        guard configuration.listens, configuration.listenDatabase == nil, connection.isPooled else {
            return configuration.listens
        }
        logger.notice(
            "a pooler is in front of the database, so that no wake-ups are heard; give listen_database to have them",
            metadata: ["poll_interval": "\(configuration.pollInterval)"]
        )
        return false
    }

    private func work(_ engine: Engine) async {
        await withTaskGroup { group in
            group.addTask {
                var heartbeats = HeartbeatService(engine)
                await heartbeats.run()
            }
            group.addTask {
                var maintenance = MaintenanceService(engine)
                await maintenance.run()
            }
            if engine.configuration.listens {
                group.addTask { await WakeUpListener(engine: engine).run() }
            }
            group.addTask { await engine.runTimer() }
            group.addTask { await engine.lockWatch.run(engine) }
            group.addTask { await engine.vacuum.run(engine) }
            await withTaskGroup { consuming in
                consuming.addTask {
                    var consumer = ConsumerService(engine)
                    await consumer.run()
                }
                // The consumer may stop while there is no connection for the service above.
                consuming.addTask { await engine.stopped.wait() }
                // This ends when the grace times have elapsed.
                consuming.addTask { await endAfterGrace(engine) }
                await consuming.next()
                consuming.cancelAll()
            }
            // Runs remain only if this task itself was cancelled. They must not outlive it.
            engine.handle(.graceEnded)
            group.cancelAll()
        }
    }

    /// Returns when, after a shutdown, the grace time for handlers and then that for cancelled ones have elapsed.
    private func endAfterGrace(_ engine: Engine) async {
        try? await gracefulShutdown()
        try? await Task.sleep(for: configuration.shutdownGrace)
        guard !Task.isCancelled else { return }
        logger.warning(
            "the grace is over; cancelling what still runs",
            metadata: ["running": .stringConvertible(engine.read(\.held.runningCount))]
        )
        engine.handle(.graceEnded)
        try? await Task.sleep(for: Self.cancellationGrace)
    }

    /// Releases the remaining jobs and deregisters the worker. Without the database, this happens when its lease ends.
    private func leave(_ engine: Engine) async {
        // The task is unstructured, because the current task may be cancelled and this work must not be. It is awaited
        // here, so it does not outlive this call, and each of its calls has a deadline.
        await Task {
            // If a request is unanswered, the worker has already waited for the server, so it now waits only briefly.
            let timeout = engine.read(\.inFlight.isEmpty) ? Duration.seconds(10) : .seconds(1)
            var database = configuration.database
            database.connectTimeout = min(database.connectTimeout, timeout)
            do {
                let connection = try await Connection.connect(database, logger: loggers.database)
                try await connection.useOwnSettings()
                let released = try await connection.call(Leave(worker: engine.worker), timeout: timeout)
                await connection.close()
                logger.notice("worker stopped", metadata: ["handed_back": .stringConvertible(released)])
            } catch {
                logger.warning(
                    "worker stopped without the database; its jobs are given back when its lease ends",
                    metadata: ["error": "\(error)"]
                )
            }
        }.value
    }
}
