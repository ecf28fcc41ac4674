import Libpq
public import Logging
public import Metrics
public import ServiceLifecycle
public import Tracing

/// Claims jobs, runs their handlers, and settles them, until it is shut down.
///
/// A worker is a `Service`: on graceful shutdown it claims nothing more, lets running handlers finish for the grace
/// time, then cancels them, hands back what is left without spending its attempts, and returns. It survives the loss of
/// its database connections, for however long.
public struct Worker: Service {
    /// How long cancelled handlers may take to end before their jobs are handed back regardless.
    static let cancellationGrace = Duration.seconds(5)

    /// How this worker behaves.
    public var configuration: WorkerConfiguration
    /// Whether it is alive and ready, for whoever is asked.
    public let health = WorkerHealth()
    private var loggers: WorkerLoggers
    private var metrics: any MetricsFactory
    private var tracer: any Tracer

    /// - Parameters:
    ///   - configuration: How the worker behaves, and its handlers.
    ///   - logger: Where it logs.
    ///   - metrics: Where it counts; see ``Metric``. Defaults to what `MetricsSystem` was bootstrapped with.
    ///   - tracer: What makes a span of each run. Defaults to what `InstrumentationSystem` was bootstrapped with.
    public init(
        configuration: WorkerConfiguration,
        logger: Logger,
        metrics: any MetricsFactory = MetricsSystem.factory,
        tracer: any Tracer = InstrumentationSystem.tracer
    ) {
        self.init(configuration: configuration, loggers: WorkerLoggers(logger), metrics: metrics, tracer: tracer)
    }

    /// - Parameters:
    ///   - configuration: How the worker behaves, and its handlers.
    ///   - loggers: Where it logs, by topic.
    ///   - metrics: Where it counts; see ``Metric``. Defaults to what `MetricsSystem` was bootstrapped with.
    ///   - tracer: What makes a span of each run. Defaults to what `InstrumentationSystem` was bootstrapped with.
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

    /// Works until shutdown.
    ///
    /// - Throws: ``BreakwaterError`` when the configuration cannot work or the schema does not fit, `PostgresError`
    ///   when the database cannot be reached at the start. Later losses of the database are survived.
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
        await withGracefulShutdownHandler {
            await work(engine)
        } onGracefulShutdown: {
            logger.notice("draining: nothing more is claimed")
            health.drains()
            engine.handle(.drain)
            engine.wantHeartbeat()
        }
        health.stopped()
        await leave(engine)
    }

    private func register() async throws -> Engine {
        let connection = try await Connection.connect(configuration.database, logger: loggers.database)
        do {
            try await connection.useWorkerSettings()
            try await Schema.check(on: connection)
            var configuration = configuration
            configuration.listens = mayListen(on: connection)
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

    /// Whether to listen: on a session that a pooler shares, LISTEN would hear nothing, and would outlive its client.
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
            group.addTask { await engine.keepTime() }
            group.addTask { await engine.lockWatch.run(engine) }
            await withTaskGroup { consuming in
                consuming.addTask {
                    var consumer = ConsumerService(engine)
                    await consumer.run()
                }
                // Without a connection there may be nothing to wait for either.
                consuming.addTask { await engine.stopped.wait() }
                // Ends when everything is settled, or when the grace is over and there is no more to wait for.
                consuming.addTask { await endAfterGrace(engine) }
                await consuming.next()
                consuming.cancelAll()
            }
            // Only left when this task itself was cancelled: nothing may go on behind its back.
            engine.handle(.graceEnded)
            group.cancelAll()
        }
    }

    /// Returns when the grace for handlers, and then the grace for cancelled ones, is over. Without shutdown, never.
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

    /// Hands back whatever is left, unspent, and strikes the worker off. Without the database, its lease will do that.
    private func leave(_ engine: Engine) async {
        // Unstructured, because this task may be cancelled, and leaving must not be. It is awaited right here, so it
        // does not outlive this call, and each of its calls has a deadline.
        await Task {
            // The worker has already waited for a server that left a request unanswered.
            let patience = engine.read(\.inFlight.isEmpty) ? Duration.seconds(10) : .seconds(1)
            var database = configuration.database
            database.connectTimeout = min(database.connectTimeout, patience)
            do {
                let connection = try await Connection.connect(database, logger: loggers.database)
                try await connection.useOwnSettings()
                let released = try await connection.call(Leave(worker: engine.worker), timeout: patience)
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
