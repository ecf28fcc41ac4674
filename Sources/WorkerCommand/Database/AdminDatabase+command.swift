import Breakwater
package import BreakwaterAdmin
import Foundation
package import Libpq
package import Logging

extension AdminDatabase {
    /// Connects, runs `body`, and closes.
    ///
    /// - Parameters:
    ///   - conninfo: The value of `--database`; nil for `DATABASE_URL` or, if that is unset, libpq's own environment.
    ///   - logLevel: Which of the server's notices are shown: `info` for all, `warning` for warnings. Defaults to
    ///     warnings.
    ///   - body: The work to do with the connection.
    /// - Throws: ``CommandFailure`` for every error of the database.
    package static func with<Value>(
        _ conninfo: String?,
        logLevel: Logger.Level = .warning,
        _ body: (AdminDatabase) async throws -> Value
    ) async throws -> Value {
        let options = options(conninfo, environment: ProcessInfo.processInfo.environment)
        let place = "\(options)"
        do {
            try options.check()
        } catch {
            throw CommandFailure(.configuration, "\(error.message)\n\(CommandFailure.otherDatabase)")
        }
        do {
            let connection = try await Connection.connect(options, logger: .command(level: logLevel))
            let admin = AdminDatabase(connection: connection, place: place)
            do {
                try await connection.useOwnSettings(lockTimeout: lockTimeout)
                let value = try await body(admin)
                await connection.close()
                return value
            } catch {
                var error = error
                if let refusal = error as? PostgresError { error = await admin.explained(refusal) }
                await connection.close()
                throw error
            }
        } catch let error as PostgresError {
            throw CommandFailure(error, at: place)
        } catch let error as BreakwaterError {
            throw CommandFailure(error, at: place)
        }
    }

    /// The options with which to connect.
    package static func options(_ conninfo: String?, environment: [String: String]) -> ConnectionOptions {
        // An empty variable counts as unset.
        let variables = ["BREAKWATER_DATABASE", "DATABASE_URL"].lazy.compactMap { environment[$0] }
        let given = conninfo ?? variables.first { !$0.isEmpty } ?? ""
        return ConnectionOptions(given, applicationName: "breakwater-cli")
    }
}
