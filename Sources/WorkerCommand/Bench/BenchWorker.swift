import Breakwater
import Logging
import ServiceLifecycle

/// A worker that runs inside this process while a body runs.
enum BenchWorker {
    /// Runs a worker while the body runs, and drains it afterwards.
    static func with<Value: Sendable>(
        _ configuration: WorkerConfiguration,
        _ body: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        let logger = Logger(label: "worker") { label in
            LogFormat.auto.handler(label: label, level: .warning, output: StandardErrorOutput())
        }
        let group = ServiceGroup(services: [Worker(configuration: configuration, logger: logger)], logger: logger)
        return try await withThrowingTaskGroup(of: Value?.self) { tasks in
            tasks.addTask {
                try await group.run()
                return nil
            }
            tasks.addTask { try await body() }
            // Either the body ends first, or the worker does because it failed.
            let first = try await tasks.next() ?? nil
            await group.triggerGracefulShutdown()
            let second = try await tasks.next() ?? nil
            guard let value = first ?? second else {
                throw CommandFailure(.unexpected, "the worker stopped before the benchmark had ended")
            }
            return value
        }
    }
}
