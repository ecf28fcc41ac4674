import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("A job that appears behind the cursors", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct LateCommitTests {
    @Test("because its transaction drew a position early and committed late: it runs promptly")
    func lateCommit() async throws {
        try await withTestDatabase { database in
            let ran = Notes()
            let handler = ClosureHandler { job, _ in
                ran.add(job.payload)
                return .succeeded()
            }
            let slow = try await database.connect()
            _ = try await slow.query("begin")
            _ = try await slow.query(#"insert into breakwater.job (kind, payload) values ('k', '"late"')"#)
            try await database.withWorker([HandlerRegistration(kind: "k", plugin: handler)]) {
                // Other jobs overtake the late one, for enough rounds that floors move.
                for round in 1...8 {
                    try await database.insert(20)
                    try await waitUntil("round \(round) runs") { ran.all.count == round * 20 }
                    try await waitUntil("round \(round) is settled") { try await database.count("job") == 0 }
                }
                _ = try await slow.query("commit")
                try await waitUntil("the late one runs") { ran.all.contains("\"late\"") }
            }
            #expect(ran.all.count == 161)
        }
    }

    @Test("because a claim was rolled back: it runs, and only its own lane waits for the rollback")
    func rolledBackClaim() async throws {
        try await withTestDatabase { database in
            let ran = Notes()
            let handler = ClosureHandler { job, _ in
                ran.add("\(job.id)")
                return .succeeded()
            }
            let other = try await HandWorker(database)
            try await database.insert(10)
            try await database.query(
                "insert into breakwater.job (kind, priority) select 'k', 4 from generate_series(1, 5)"
            )
            _ = try await other.connection.query("begin")
            #expect(try await other.claim(5, room: ["k": 5]).map(\.priority) == [4, 4, 4, 4, 4])
            try await database.withWorker([HandlerRegistration(kind: "k", plugin: handler)]) {
                try await waitUntil("the other lane's run") { ran.all.count == 10 }
                _ = try await other.connection.query("rollback")
                try await waitUntil("those that were claimed run") { ran.all.count == 15 }
            }
            #expect(ran.counts.values.allSatisfy { $0 == 1 })
        }
    }

    /// Returns the position below which no job can appear any more, after the leader has recorded its horizon.
    private func proven(_ database: TestDatabase) async throws -> Int {
        try await database.query("select breakwater.record_horizon()")
        return try await database.number("select proven from breakwater.horizon")
    }

    @Test("is expected as long as its transaction lives: the horizon stays below it")
    func horizonSees() async throws {
        try await withTestDatabase { database in
            try await database.insert(5)
            #expect(try await proven(database) == 5)
            let slow = try await database.connect()
            _ = try await slow.query("begin")
            _ = try await slow.query("insert into breakwater.job (kind) values ('k')")
            try await database.insert(5)
            for _ in 1...3 { #expect(try await proven(database) == 5) }
            _ = try await slow.query("commit")
            try await waitUntil("the horizon passes") { try await proven(database) == 11 }
        }
    }

    @Test("is expected while new transactions keep beginning: the horizon waits for each, but not for later ones")
    func horizonAmongOthers() async throws {
        try await withTestDatabase { database in
            let others = [try await database.connect(), try await database.connect()]
            _ = try await others[0].query("begin")
            _ = try await others[0].query("insert into breakwater.job (kind) values ('k')")
            #expect(try await proven(database) == 0)
            var noted = 0
            for round in 1...6 {
                _ = try await others[round % 2].query("begin")
                _ = try await others[round % 2].query("insert into breakwater.job (kind) values ('k')")
                _ = try await others[(round + 1) % 2].query("commit")
                noted = try await proven(database)
            }
            // The transactions of all but the last two rounds have ended, and the horizon has passed them.
            #expect(noted >= 4)
            #expect(try await database.count("horizon") == 1)
            _ = try await others[0].query("rollback")
        }
    }

    @Test("holds nothing up when a long transaction never touched the jobs, or only read them")
    func unrelatedTransactions() async throws {
        try await withTestDatabase { database in
            try await database.query("create table elsewhere (x int)")
            let writer = try await database.connect()
            _ = try await writer.query("begin")
            _ = try await writer.query("insert into elsewhere values (1)")
            let reader = try await database.connect()
            _ = try await reader.query("begin isolation level repeatable read")
            _ = try await reader.query("select count(*) from breakwater.job")
            _ = try await reader.query("select from breakwater.job for share")
            try await database.insert(3)
            #expect(try await proven(database) == 3)
            for connection in [writer, reader] { _ = try await connection.query("rollback") }
        }
    }
}
