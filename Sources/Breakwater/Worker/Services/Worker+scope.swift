package import Logging
import ServiceLifecycle

extension Worker {
    /// Runs a worker while a body runs, and drains it afterwards.
    ///
    /// - Parameters:
    ///   - configuration: The worker's configuration.
    ///   - logger: The logger for the worker.
    ///   - body: The code that runs meanwhile.
    /// - Returns: The body's result; nil if the worker ended by itself before the body did.
    /// - Throws: The error of the body or of the worker.
    package static func withWorker<Result: Sendable>(
        _ configuration: WorkerConfiguration,
        logger: Logger,
        _ body: @escaping @Sendable () async throws -> Result
    ) async throws -> Result? {
        let group = ServiceGroup(services: [Worker(configuration: configuration, logger: logger)], logger: logger)
        return try await withThrowingTaskGroup(of: Result?.self) { tasks in
            tasks.addTask {
                try await group.run()
                return nil
            }
            tasks.addTask { try await body() }
            // Either the body ends first, or the worker does because it failed.
            let first = try await tasks.next() ?? nil
            await group.triggerGracefulShutdown()
            let second = try await tasks.next() ?? nil
            return first ?? second
        }
    }
}
