import Breakwater
import BreakwaterDashboard
import BreakwaterEndpoints
import BreakwaterHTTP
import BreakwaterMetrics
import BreakwaterNotify
import BreakwaterOTLP
import Foundation
import Libpq
import Logging
import ServiceLifecycle

/// Runs a worker as a process, with its services and the signals that stop it.
struct WorkerProcess {
    var configuration: WorkerConfiguration
    var logger: Logger
    /// The address where metrics and health are served, and the registry of the metrics.
    var metrics: (address: ListenAddress, registry: MetricsRegistry)?
    /// The dashboard that is served beside the worker until the worker has ended.
    var dashboard: Dashboard?
    /// The exporter of spans; nil if tracing is off.
    var spans: OTLPExporter?
    /// Where incidents are reported; nil if they are not.
    var notify: NotificationTarget?
    /// The services that the executable runs beside the worker.
    var services: [any Service] = []
    /// The action on SIGHUP.
    var onHangup: (@Sendable () -> Void)?

    /// Runs until a signal has stopped the worker.
    ///
    /// - Throws: ``CommandFailure`` when the worker cannot start.
    func run() async throws {
        let worker = Worker(configuration: configuration, loggers: WorkerLoggers(prefix: logger.label))
        // Services shut down from the last to the first, so those that report the worker's health still run while it
        // drains.
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: ownServices + directories + watchers(of: worker.health) + [
                    .init(
                        service: worker,
                        successTerminationBehavior: .gracefullyShutdownGroup,
                        failureTerminationBehavior: .cancelGroup,
                        serviceName: "worker"
                    ),
                    .init(
                        service: StopSignals(onHangup: onHangup),
                        successTerminationBehavior: .gracefullyShutdownGroup,
                        failureTerminationBehavior: .gracefullyShutdownGroup,
                        serviceName: "signals"
                    ),
                ],
                logger: logger
            )
        )
        let place = "\(configuration.database)"
        do {
            try await group.run()
        } catch let error as PostgresError where error.sqlState == "22023" {
            // Registration fails if the handlers of the whole fleet together have a cycle of reroutes, and before it, if
            // a schedule has a cron expression or a time zone that the database does not accept.
            let hint = error.hint.map { "\n\($0)" } ?? ""
            if error.message.hasPrefix("schedules.") { throw CommandFailure(.configuration, "\(error.message)\(hint)") }
            throw CommandFailure(.configuration, "the fleet refuses these handlers: \(error.message)\(hint)")
        } catch let error as PostgresError {
            throw CommandFailure(error, at: place)
        } catch let error as DashboardError {
            throw CommandFailure(.configuration, "\(error); give another address with --dashboard")
        } catch let error as BreakwaterError {
            throw CommandFailure(error, at: place)
        } catch let error as EndpointError {
            throw CommandFailure(.configuration, "\(error); give another address with --metrics")
        }
    }

    private var ownServices: [ServiceGroupConfiguration.ServiceConfiguration] {
        services.map { service in
            .init(
                service: service,
                successTerminationBehavior: .ignore,
                failureTerminationBehavior: .gracefullyShutdownGroup,
                serviceName: "\(type(of: service))"
            )
        }
    }

    /// The directories of endpoints that handlers need. They end after the worker, because its last jobs use them.
    private var directories: [ServiceGroupConfiguration.ServiceConfiguration] {
        EndpointDirectory.directories(of: configuration.handlers)
            .filter { directory in !services.contains { ($0 as? EndpointDirectory) === directory } }
            .map { directory in
                directory.use(configuration.database, logger: Logger(label: "breakwater.webhooks"))
                return .init(service: directory, serviceName: "endpoints of customers")
            }
    }

    private func watchers(of health: WorkerHealth) -> [ServiceGroupConfiguration.ServiceConfiguration] {
        var watchers: [ServiceGroupConfiguration.ServiceConfiguration] = []
        if let reporter = SystemdReporter(environment: ProcessInfo.processInfo.environment, health: health) {
            watchers.append(.init(service: reporter, serviceName: "systemd"))
        }
        if let dashboard { watchers.append(.init(service: dashboard, serviceName: "dashboard")) }
        if let notify {
            let notifier = IncidentNotifier(
                database: configuration.database,
                target: notify,
                logger: Logger(label: "breakwater.notify")
            )
            watchers.append(.init(service: notifier, serviceName: "notify"))
        }
        if let spans { watchers.append(.init(service: spans, serviceName: "traces")) }
        guard let (address, registry) = metrics else { return watchers }
        let endpoints = EndpointServer(
            address: address,
            health: health,
            metrics: registry.text,
            logger: Logger(label: "breakwater.endpoints")
        )
        let fleet = FleetMetrics(database: configuration.database, logger: logger)
        return watchers + [
            .init(
                service: endpoints,
                failureTerminationBehavior: .gracefullyShutdownGroup,
                serviceName: "endpoints"
            ),
            .init(service: fleet, serviceName: "fleet metrics"),
        ]
    }
}
