public import Breakwater
import Foundation
import Libpq
import Logging

extension TestDatabase {
    /// Runs a worker on this database while the body runs, and drains it afterwards.
    ///
    /// - Parameters:
    ///   - handlers: The kinds that the worker runs.
    ///   - configure: Changes the worker's configuration. The poll interval and the lease are short unless changed
    ///     here.
    ///   - body: The code that runs meanwhile.
    /// - Returns: The body's result.
    /// - Throws: The error of the body or of the worker.
    public func withWorker<Result: Sendable>(
        _ handlers: [HandlerRegistration],
        configure: (inout WorkerConfiguration) -> Void = { _ in },
        _ body: @escaping @Sendable () async throws -> Result
    ) async throws -> Result {
        var configuration = WorkerConfiguration(database: options, handlers: handlers)
        configuration.pollInterval = .milliseconds(200)
        configuration.lease = .seconds(10)
        configuration.shutdownGrace = .seconds(10)
        if TestDatabase.isPooled { configuration.listenDatabase = ConnectionOptions(directURL) }
        configure(&configuration)
        guard let result = try await Worker.withWorker(configuration, logger: testLogger, body) else {
            throw BreakwaterTestingError("the worker stopped by itself")
        }
        return result
    }
}

/// The logger of tests, which is silent unless `BREAKWATER_TEST_LOG` is set.
let testLogger: Logger = {
    guard ProcessInfo.processInfo.environment["BREAKWATER_TEST_LOG"] != nil else {
        return Logger(label: "breakwater.testing") { _ in SwiftLogNoOpLogHandler() }
    }
    var logger = Logger(label: "breakwater.testing") { StreamLogHandler.standardError(label: $0) }
    logger.logLevel = .debug
    return logger
}()
