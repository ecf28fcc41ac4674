import Breakwater
import Libpq
import Logging
import ServiceLifecycle

/// A worker as a process: its services, and the signals that end it.
struct WorkerProcess {
    var configuration: WorkerConfiguration
    var logger: Logger

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
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(services: [worker, signals], logger: logger)
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
        } catch let error as BreakwaterError {
            throw CommandFailure(error, at: place)
        }
    }
}
