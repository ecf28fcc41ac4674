import BreakwaterAdmin
import Libpq
import Logging

/// The dashboard's own small pool of connections. They are opened on demand, and replaced when they are lost.
///
/// A connection accepts many calls at a time and answers them in order. So each call uses the least busy connection,
/// and no call waits for a free one.
actor DatabasePool {
    private struct Member {
        var connection: Connection
        var calls: Int
    }

    private let options: ConnectionOptions
    private let limit: Duration
    private let logger: Logger
    private var members: [Int: Member] = [:]
    private var nextNumber = 0
    private var isOpening = 0

    static let most = 4
    /// The most calls at a time. Further ones are refused.
    private static let mostCalls = 200

    init(_ options: ConnectionOptions, limit: Duration, logger: Logger) {
        self.options = options
        self.limit = limit
        self.logger = logger
    }

    /// Calls `body` with a connection.
    func with<Value: Sendable>(_ body: @Sendable (AdminDatabase) async throws -> Value) async throws -> Value {
        let number = try await checkOut()
        defer { members[number]?.calls -= 1 }
        guard let member = members[number] else { throw PostgresError(.connectionLost, "the connection was closed") }
        return try await body(AdminDatabase(connection: member.connection, place: "\(options)", limit: limit))
    }

    /// Closes all connections.
    func close() async {
        let connections = members.values.map(\.connection)
        members = [:]
        for connection in connections { await connection.close() }
    }

    /// Picks a connection and counts one more call on it. Returns the connection's number.
    private func checkOut() async throws -> Int {
        for (number, member) in members where member.connection.isClosed { members[number] = nil }
        let idlest = members.min { $0.value.calls < $1.value.calls }
        if let idlest, idlest.value.calls == 0 || members.count + isOpening >= Self.most {
            guard members.values.reduce(0, { $0 + $1.calls }) < Self.mostCalls else {
                throw PostgresError(.timedOut, "the dashboard has too much to do; try again in a moment")
            }
            members[idlest.key]?.calls += 1
            return idlest.key
        }
        isOpening += 1
        defer { isOpening -= 1 }
        let connection = try await Connection.connect(options, logger: logger)
        do {
            try await connection.useOwnSettings()
        } catch {
            await connection.close()
            throw error
        }
        nextNumber += 1
        members[nextNumber] = Member(connection: connection, calls: 1)
        return nextNumber
    }
}
