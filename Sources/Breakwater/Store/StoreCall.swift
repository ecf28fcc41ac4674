package import Libpq

/// One call of one SQL function: the statement that makes it, and what its answer means.
///
/// Each function that a worker uses has one such type, named after it, in this folder.
package protocol StoreCall: Sendable {
    /// What the answer decodes to.
    associatedtype Output: Sendable

    /// The call, with its parameters.
    var statement: Statement { get }

    /// Reads the answer.
    func decode(_ result: QueryResult) throws(PostgresError) -> Output
}

extension Connection {
    /// Makes one call.
    package func call<Call: StoreCall>(
        _ call: Call,
        timeout: Duration = .seconds(30)
    ) async throws(PostgresError) -> Call.Output {
        let results = try await pipeline([call.statement], timeout: timeout)
        return try call.decode(results[0])
    }

    /// Makes two calls in one transaction and one round trip.
    package func call<First: StoreCall, Second: StoreCall>(
        _ first: First,
        _ second: Second,
        timeout: Duration = .seconds(30)
    ) async throws(PostgresError) -> (First.Output, Second.Output) {
        let results = try await pipeline([first.statement, second.statement], timeout: timeout)
        return (try first.decode(results[0]), try second.decode(results[1]))
    }
}
