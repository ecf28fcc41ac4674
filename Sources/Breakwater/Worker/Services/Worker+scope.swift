package import Logging
import ServiceLifecycle

extension Worker {
    /// Runs a worker while a body runs, and drains it afterwards.
    ///
    /// - Parameters:
    ///   - configuration: The worker's.
    ///   - logger: For the worker's messages.
    ///   - body: What happens meanwhile.
    /// - Returns: What the body returns; nil if the worker ended by itself before the body did.
    /// - Throws: What the body or the worker throws.
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
            // Either the body ends first, or a worker that cannot go on.
            let first = try await tasks.next() ?? nil
            await group.triggerGracefulShutdown()
            let second = try await tasks.next() ?? nil
            return first ?? second
        }
    }
}
