import Foundation
import Libpq
public import Logging

/// The loggers of a worker, one for each topic, so that each can have its own level.
public struct WorkerLoggers: Sendable {
    /// The worker's start, its end and its lease.
    public var worker: Logger
    /// The outcome of each job: failures at info, all others at debug.
    public var jobs: Logger
    /// Transitions of circuits and suspensions, logged at notice by the worker whose call caused them. A worker that
    /// suspends itself logs at warning.
    public var circuits: Logger
    /// Connections, and notices of the server.
    public var database: Logger
    /// The messages of handlers.
    public var handlers: Logger

    /// One logger for everything.
    ///
    /// - Parameter logger: The logger.
    public init(_ logger: Logger) {
        worker = logger
        jobs = logger
        circuits = logger
        database = logger
        handlers = logger
    }

    /// A logger for each topic, made by the `LoggingSystem`.
    ///
    /// - Parameter prefix: The prefix of the labels: `breakwater` gives `breakwater.jobs`, and `breakwater` itself for
    ///   the worker. Defaults to `breakwater`.
    public init(prefix: String = "breakwater") {
        worker = Logger(label: prefix)
        jobs = Logger(label: "\(prefix).jobs")
        circuits = Logger(label: "\(prefix).circuits")
        database = Logger(label: "\(prefix).database")
        handlers = Logger(label: "\(prefix).handlers")
    }

    /// Logs a notice that Breakwater's own functions raised, with its metadata; see `breakwater.write_history`,
    /// `breakwater.suspend`, `breakwater.suspend_self` and `breakwater.rescue`.
    ///
    /// - Returns: Whether it was such a notice.
    func logNotice(_ notice: PostgresError) -> Bool {
        if notice.sqlState == "BW005", let detail = notice.detail,
            let keys = try? JSONDecoder().decode(RescueNotice.self, from: Data(detail.utf8))
        {
            worker.warning("\(notice.message)", metadata: keys.metadata)
            return true
        }
        guard notice.sqlState == "BW001" || notice.sqlState == "BW002", let detail = notice.detail,
            let keys = try? JSONDecoder().decode(CircuitNotice.self, from: Data(detail.utf8))
        else { return false }
        // A worker that suspends itself needs an operator, for example to raise a limit or to install a program.
        circuits.log(level: keys.circuit == nil ? .warning : .notice, "\(notice.message)", metadata: keys.metadata)
        return true
    }

    private struct RescueNotice: Decodable {
        /// The lost worker's id; nil for claims without a worker, as after a partial restore.
        var worker: Int64?
        var name: String?
        var jobs: Int

        var metadata: Logger.Metadata {
            var metadata: Logger.Metadata = ["jobs": .stringConvertible(jobs)]
            metadata["lost_worker"] = worker.map { .stringConvertible($0) }
            metadata["lost_worker_name"] = name.map { "\($0)" }
            return metadata
        }
    }

    private struct CircuitNotice: Decodable {
        /// The circuit; nil for a worker that suspends itself, whose notice has a kind instead.
        var circuit: String?
        var kind: String?
        var reason: String
        var from: String?
        var to: String?
        var generation: Int64?
        var actor: String?
        var worker: Int64?
        var until: String?

        var metadata: Logger.Metadata {
            var metadata: Logger.Metadata = ["reason": "\(reason)"]
            metadata["circuit"] = circuit.map { "\($0)" }
            metadata["kind"] = kind.map { "\($0)" }
            metadata["from"] = from.map { "\($0)" }
            metadata["to"] = to.map { "\($0)" }
            metadata["generation"] = generation.map { .stringConvertible($0) }
            metadata["actor"] = actor.map { "\($0)" }
            metadata["suspended_worker"] = worker.map { .stringConvertible($0) }
            metadata["until"] = until.map { "\($0)" }
            return metadata
        }
    }
}
