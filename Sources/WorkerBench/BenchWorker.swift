import Breakwater
import Logging
import WorkerCommand

/// A worker inside this process, for as long as a body runs.
enum BenchWorker {
    /// Runs a worker while the body runs, and drains it afterwards.
    static func with<Value: Sendable>(
        _ configuration: WorkerConfiguration,
        _ body: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        guard let value = try await Worker.withWorker(configuration, logger: .command(level: .warning), body) else {
            throw CommandFailure(.unexpected, "the worker stopped before the benchmark had ended")
        }
        return value
    }
}
