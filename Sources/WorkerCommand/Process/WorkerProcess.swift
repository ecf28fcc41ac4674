import Breakwater
import BreakwaterDashboard
import Libpq
import Logging
import ServiceLifecycle

/// A worker as a process: its services, and the signals that end it.
struct WorkerProcess {
    var configuration: WorkerConfiguration
    var logger: Logger
    /// Served beside the worker, until the worker has ended.
    var dashboard: Dashboard?

    /// Runs until a signal has been obeyed.
    ///
    /// - Throws: ``CommandFailure`` when the worker cannot start.
    func run() async throws {
        let worker = ServiceGroupConfiguration.ServiceConfiguration(
            service: Worker(configuration: configuration, logger: logger),
            successTerminationBehavior: .gracefullyShutdownGroup,
            failureTerminationBehavior: .cancelGroup,
            serviceName: "worker"
        )
        let signals = ServiceGroupConfiguration.ServiceConfiguration(
            service: StopSignals(),
            successTerminationBehavior: .gracefullyShutdownGroup,
            failureTerminationBehavior: .gracefullyShutdownGroup,
            serviceName: "signals"
        )
        let watchers = dashboard.map {
            [ServiceGroupConfiguration.ServiceConfiguration(service: $0, serviceName: "dashboard")]
        }
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: (watchers ?? []) + [worker, signals],
                logger: logger
            )
        )
        let place = "\(configuration.database)"
        do {
            try await group.run()
        } catch let error as PostgresError where error.sqlState == "22023" {
            // Registering refuses what only the handlers of the whole fleet show: a circle of reroutes.
            let hint = error.hint.map { "\n\($0)" } ?? ""
            throw CommandFailure(.configuration, "the fleet refuses these handlers: \(error.message)\(hint)")
        } catch let error as PostgresError {
            throw CommandFailure(error, at: place)
        } catch let error as DashboardError {
            throw CommandFailure(.configuration, "\(error); give another address with --dashboard")
        } catch let error as BreakwaterError {
            throw CommandFailure(error, at: place)
        }
    }
}
