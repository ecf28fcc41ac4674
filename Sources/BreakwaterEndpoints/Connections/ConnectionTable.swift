/// Decides which connections of a server stay open. It closes nothing itself.
///
/// A new connection is always taken. If there are then too many, of its client or in all, another one gives way.
/// Connections that the server waits for (no whole request yet, or kept alive) go first, among them those of the client
/// with most connections, and among these the one that has been silent longest. So clients that open connections and
/// send nothing crowd out one another, and a health check always finds a place.
struct ConnectionTable: Sendable {
    private struct Entry {
        /// Nil for one that is not counted by its address.
        var client: ClientAddress?
        /// Whether a request is complete and its answer is not.
        var isBusy = false
        /// Rises with each change of `isBusy` of any connection.
        var turn: Int
    }

    /// How many there may be in all.
    let most: Int
    /// How many one client may have.
    let mostOfClient: Int

    private var entries: [Int: Entry] = [:]
    private var turns = 0

    init(most: Int, mostOfClient: Int) {
        self.most = most
        self.mostOfClient = mostOfClient
    }

    /// How many connections are open.
    var count: Int { entries.count }

    /// Takes a connection.
    ///
    /// - Parameters:
    ///   - id: Its number, which no other connection has.
    ///   - client: Whose connection it is; nil for one that counts in all only, such as a trusted proxy's.
    /// - Returns: The connection that gives way; nil when there is room.
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
        turns += 1
        entries[id] = Entry(client: client, turn: turns)
        return leaving
    }

    /// Notes that a request is complete, or that its answer is.
    mutating func mark(_ id: Int, isBusy: Bool) {
        turns += 1
        let turn = turns
        entries[id]?.isBusy = isBusy
        entries[id]?.turn = turn
    }

    /// Notes that a connection is closed.
    mutating func close(_ id: Int) { entries[id] = nil }

    private static func next(of entries: [Int: Entry]) -> Int? {
        let idle = entries.filter { !$0.value.isBusy }
        guard !idle.isEmpty else { return entries.min { $0.value.turn < $1.value.turn }?.key }
        var counts: [ClientAddress: Int] = [:]
        for case let client? in entries.values.map(\.client) { counts[client, default: 0] += 1 }
        func count(_ entry: Entry) -> Int { entry.client.flatMap { counts[$0] } ?? 1 }
        return idle.min { (-count($0.value), $0.value.turn) < (-count($1.value), $1.value.turn) }?.key
    }
}
