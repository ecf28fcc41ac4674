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
                // Others pass it by, for long enough that floors move.
                for round in 1...8 {
                    try await database.insert(20)
                    try await waitUntil("round \(round) runs") { ran.all.count == round * 20 }
                    try await waitUntil("round \(round) is settled") { try await database.count("job") == 0 }
                }
                _ = try await slow.query("commit")
                try await waitUntil("the late one runs", deadline: .seconds(5)) { ran.all.contains("\"late\"") }
            }
            #expect(ran.all.count == 161)
        }
    }

    @Test("because a claim was rolled back: it runs")
    func rolledBackClaim() async throws {
        try await withTestDatabase { database in
            let ran = Notes()
            let handler = ClosureHandler { job, _ in
                ran.add("\(job.id)")
                return .succeeded()
            }
            let other = try await HandWorker(database)
            try await database.insert(10)
            _ = try await other.connection.query("begin")
            #expect(try await other.claim(5).count == 5)
            try await database.withWorker([HandlerRegistration(kind: "k", plugin: handler)]) {
                try await waitUntil("the others run") { ran.all.count == 5 }
                try await database.insert(10)
                try await waitUntil("newer ones run") { ran.all.count == 15 }
                _ = try await other.connection.query("rollback")
                try await waitUntil("those that were claimed run", deadline: .seconds(5)) { ran.all.count == 20 }
            }
            #expect(ran.counts.values.allSatisfy { $0 == 1 })
        }
    }

    @Test("is expected as long as its transaction lives: the horizon names it")
    func horizonSees() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            func horizon(_ holders: [String]) async throws -> Horizon.Output {
                try await worker.connection.call(Horizon(holders: holders))
            }
            #expect(try await horizon([]).holders == [])
            let slow = try await database.connect()
            _ = try await slow.query("begin")
            _ = try await slow.query("insert into breakwater.job (kind) values ('k')")
            let during = try await horizon([])
            #expect(during.holders.count == 1)
            #expect(during.highest >= 1)
            #expect(try await !horizon(during.holders).passed)
            _ = try await slow.query("commit")
            try await waitUntil("the horizon passes") { try await horizon(during.holders).passed }
        }
    }

    @Test("holds nothing up when a long transaction never touched the jobs, or only read them")
    func unrelatedTransactions() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.query("create table elsewhere (x int)")
            let writer = try await database.connect()
            _ = try await writer.query("begin")
            _ = try await writer.query("insert into elsewhere values (1)")
            let reader = try await database.connect()
            _ = try await reader.query("begin isolation level repeatable read")
            _ = try await reader.query("select count(*) from breakwater.job")
            _ = try await reader.query("select from breakwater.job for share")
            #expect(try await worker.connection.call(Horizon(holders: [])).holders == [])
        }
    }
}
