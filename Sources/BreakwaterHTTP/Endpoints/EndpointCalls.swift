/// How deliveries to endpoints ended since the last report.
///
/// Only changes matter: whether a delivery succeeded since the last report, and whether the last one failed. A success
/// of an endpoint that was not failing is not kept, so healthy endpoints need no report.
package struct EndpointCalls: Sendable {
    /// The most endpoints in one report. Calls of further endpoints are left out; their next failures are reported.
    static let most = 10_000

    /// The calls of one kind to one endpoint.
    package struct Call: Encodable, Equatable, Sendable {
        var kind: String
        var name: String
        /// Whether any delivery succeeded.
        var succeeded = false
        /// The message of the last delivery, if it failed.
        var failure: String?
        /// Whether that failure was a 410 (Gone).
        var isGone = false

        private enum CodingKeys: String, CodingKey {
            case kind, name, succeeded, failure
            case isGone = "is_gone"
        }
    }

    private struct Key: Hashable {
        var kind: String
        var name: String
    }

    private var calls: [Key: Call] = [:]

    var isEmpty: Bool { calls.isEmpty }

    /// Adds a delivery that succeeded.
    ///
    /// - Parameter wasFailing: Whether the endpoint was failing before, as far as the caller knows.
    mutating func succeeded(_ kind: String, _ name: String, wasFailing: Bool) {
        let key = Key(kind: kind, name: name)
        guard wasFailing || calls[key] != nil else { return }
        change(key) { call in
            call.succeeded = true
            call.failure = nil
            call.isGone = false
        }
    }

    /// Adds a delivery that failed.
    mutating func failed(_ kind: String, _ name: String, _ message: String, isGone: Bool) {
        change(Key(kind: kind, name: name)) { call in
            call.failure = message
            call.isGone = isGone
        }
    }

    /// Removes and returns the calls.
    mutating func take() -> [Call] {
        defer { calls = [:] }
        return Array(calls.values)
    }

    private mutating func change(_ key: Key, _ body: (inout Call) -> Void) {
        guard calls[key] != nil || calls.count < Self.most else { return }
        body(&calls[key, default: Call(kind: key.kind, name: key.name)])
    }
}
