/// Decides which connections of a server stay open. It does not close connections itself.
///
/// A new connection is always accepted. If there are then too many, of its client or in total, another one is closed to
/// make room. Connections that the server waits for (without a complete request, or kept alive) are closed first. Among
/// them, those of the client with the most connections come first, and among these the one that has been silent
/// longest. So clients that open connections and send nothing only displace one another, and a health check always gets
/// a connection.
struct ConnectionTable: Sendable {
    private struct Entry {
        /// The client; nil for a connection that is not counted by its address.
        var client: ClientAddress?
        /// Whether a request is complete and its answer is not.
        var isBusy = false
        /// A number that increases with each change of `isBusy` of any connection.
        var lastUse: Int
    }

    /// The most connections in total.
    let most: Int
    /// The most connections of one client.
    let mostOfClient: Int

    private var entries: [Int: Entry] = [:]
    private var sequence = 0

    init(most: Int, mostOfClient: Int) {
        self.most = most
        self.mostOfClient = mostOfClient
    }

    /// How many connections are open.
    var count: Int { entries.count }

    /// Adds a connection.
    ///
    /// - Parameters:
    ///   - id: The connection's number, which no other connection has.
    ///   - client: The client; nil for a connection that counts only in total, such as that of a trusted proxy.
    /// - Returns: The connection to close; nil when there is room.
    mutating func open(_ id: Int, client: ClientAddress?) -> Int? {
        let ofClient = client.map { client in entries.filter { $0.value.client == client } } ?? [:]
        let leaving =
            if client != nil, ofClient.count >= mostOfClient {
                Self.next(of: ofClient)
            } else if entries.count >= most {
                Self.next(of: entries)
            } else {
                Int?.none
            }
        if let leaving { entries[leaving] = nil }
        sequence += 1
        entries[id] = Entry(client: client, lastUse: sequence)
        return leaving
    }

    /// Records that a request or its answer is complete.
    mutating func mark(_ id: Int, isBusy: Bool) {
        sequence += 1
        let lastUse = sequence
        entries[id]?.isBusy = isBusy
        entries[id]?.lastUse = lastUse
    }

    /// Records that a connection is closed.
    mutating func close(_ id: Int) { entries[id] = nil }

    private static func next(of entries: [Int: Entry]) -> Int? {
        let idle = entries.filter { !$0.value.isBusy }
        guard !idle.isEmpty else { return entries.min { $0.value.lastUse < $1.value.lastUse }?.key }
        var counts: [ClientAddress: Int] = [:]
        for case let client? in entries.values.map(\.client) { counts[client, default: 0] += 1 }
        func count(_ entry: Entry) -> Int { entry.client.flatMap { counts[$0] } ?? 1 }
        return idle.min { (-count($0.value), $0.value.lastUse) < (-count($1.value), $1.value.lastUse) }?.key
    }
}
