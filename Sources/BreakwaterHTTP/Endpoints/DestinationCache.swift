import Synchronization

/// The destinations of endpoints, so that a URL is not parsed for each request.
final class DestinationCache: Sendable {
    /// The most destinations that are kept.
    private static let most = 10_000

    private struct Entry {
        var row: EndpointRow
        var destination: HTTPDestination
    }

    private let entries = Mutex<[String: Entry]>([:])

    /// The destination of a row, which `make` makes if the row has changed.
    func destination(of row: EndpointRow, _ make: () throws -> HTTPDestination) rethrows -> HTTPDestination {
        let cached = entries.withLock { entries -> HTTPDestination? in
            guard let entry = entries[row.name] else { return nil }
            if entry.row === row { return entry.destination }
            guard entry.row.hasSameDestination(as: row) else { return nil }
            entries[row.name]?.row = row
            return entry.destination
        }
        if let cached { return cached }
        let destination = try make()
        entries.withLock { entries in
            if entries.count >= Self.most { entries = [:] }
            entries[row.name] = Entry(row: row, destination: destination)
        }
        return destination
    }
}
