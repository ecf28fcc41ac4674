import Breakwater
import Libpq
import Logging
import ServiceLifecycle

/// A worker as a process: its services, and the signals that end it.
struct WorkerProcess {
    var configuration: WorkerConfiguration
    var logger: Logger

    /// Runs until a signal has been obeyed.
    func run() async throws {
        let signals = ServiceGroupConfiguration.ServiceConfiguration(
            service: StopSignals(),
            successTerminationBehavior: .gracefullyShutdownGroup,
            failureTerminationBehavior: .gracefullyShutdownGroup,
            serviceName: "signals"
        )
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(services: [signals], logger: logger)
        )
        try await group.run()
    }
}
