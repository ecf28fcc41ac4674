package import Libpq
package import Logging

/// A plugin that settles its successful runs itself, in the transaction in which it does the work. The effects of such
/// a job in the database happen exactly once.
package protocol SettlingPlugin: HandlerPlugin {
    /// Checks what can be checked before the worker registers, and keeps what the runs need.
    ///
    /// - Parameters:
    ///   - kind: The kind of the jobs, for messages.
    ///   - worker: The worker's connection to the database with the jobs.
    ///   - database: How the worker connects to that database.
    ///   - logger: The logger for what concerns no single job.
    /// - Throws: ``BreakwaterError`` if the plugin can run no job, `PostgresError`.
    func prepare(kind: String, worker: Connection, database: ConnectionOptions, logger: Logger) async throws
}
