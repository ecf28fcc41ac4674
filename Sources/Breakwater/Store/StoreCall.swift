package import Libpq

/// A call of one SQL function: its statement, and the decoding of its result.
///
/// Each function that a worker uses has one such type in this folder, which is named after the function.
package protocol StoreCall: Sendable {
    /// The decoded result.
    associatedtype Output: Sendable

    /// The statement with its parameters.
    var statement: Statement { get }

    /// Decodes the result.
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
