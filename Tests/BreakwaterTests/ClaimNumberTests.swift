import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

@Suite("Numbers of claims", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ClaimNumberTests {
    @Test("a settle under a number that another worker's claim has now changes nothing", arguments: [true, false])
    func drawnAgain(succeeds: Bool) async throws {
        try await withTestDatabase { database in
            let old = try await HandWorker(database)
            let new = try await HandWorker(database)
            try await database.insert(3)
            let jobs = try await old.claim()
            // After a failover, the standby has received neither the claim nor its number.
            try await database.query(
                """
                with claims as (delete from breakwater.claim), horizon as (delete from breakwater.horizon)
                select setval('breakwater.lease', 1, false)
                """
            )
            let again = try await new.claim(2)
            #expect(again.map(\.lease) == [jobs[0].lease, jobs[0].lease])
            let output = try await old.settle(jobs, succeeds ? .succeeded : .failed(), claims: [jobs[0].lease])
            #expect(output.settled == 0 && Set(output.stale) == [1, 2, 3])
            #expect(try await database.heldJobs() == [1, 2])
            #expect(try await new.settle(again).settled == 2)
        }
    }

    @Test("a redriven job is held by no claim that was open when it died, and no old result ends it")
    func redriven() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(2)
            let jobs = try await worker.claim()
            try await worker.settle([jobs[0]], .discarded)
            #expect(try await database.number("select breakwater.redrive('k')") == 1)
            let output = try await worker.settle([jobs[0]], .discarded)
            #expect(output.settled == 0 && output.stale == [1])
            let again = try await worker.claim()
            #expect(again.map(\.id) == [1] && again[0].lease > jobs[0].lease)
            #expect(try await worker.settle([again[0], jobs[1]]).settled == 2)
        }
    }

    @Test("a claim that is overtaken when it ends does not stay for good")
    func overtaken() async throws {
        try await withTestDatabase { database in
            let first = try await HandWorker(database)
            let second = try await HandWorker(database)
            try await database.insert(2)
            let jobs = try await first.claim(1)
            _ = try await first.connection.query("begin")
            try await first.settle(jobs, claims: [jobs[0].lease])
            let others = try await second.claim(1, isLate: false)
            _ = try await first.connection.query("commit")
            #expect(others.count == 1)
            try await second.maintain()
            #expect(try await database.numbers("select lease from breakwater.claim") == others.map(\.lease))
        }
    }

    @Test("a claim that commits while its worker is struck off is found by the next rescue")
    func struckOffMeanwhile() async throws {
        try await withTestDatabase { database in
            let dead = try await HandWorker(database)
            let alive = try await HandWorker(database)
            try await database.insert(2)
            #expect(try await dead.claim().count == 2)
            // The state is now as if the worker's claims had been released just before this claim was made.
            try await database.query("select breakwater.deregister_worker($1)", [.int8(dead.id)])
            #expect(try await alive.maintain().rescued == 2)
            #expect(try await alive.claim().count == 2)
        }
    }

    @Test("a flush makes the claim durable, also if the newest row is one without jobs")
    func flushed() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let worker = try await HandWorker(database, ["k", "other"])
            try await database.insert(2000)
            try await database.insert(2000, kind: "other")
            #expect(try await worker.claim(2000, room: ["k": 0, "other": 2000]).count == 2000)
            try await database.query("select breakwater.record_horizon()")
            try await database.query("update breakwater.claim set floor = 0")
            // A claim for late jobs that finds none adds a row of its own after the other lane's row.
            _ = try await worker.claim(10, room: ["k": 5, "other": 5])
            _ = try await worker.connection.query("begin")
            let before = try await database.query("select pg_current_wal_insert_lsn()::text")[0][0].string()
            try await worker.call(Flush(worker: worker.id))
            let written = try await database.query("select pg_current_wal_insert_lsn() > $1::pg_lsn", [.text(before)])
            #expect(try written[0][0].bool())
            _ = try await worker.connection.query("commit")
        }
    }

    @Test(
        "claims and cancels refuse any other isolation level than READ COMMITTED, and say what to change",
        arguments: ["serializable", "repeatable read"]
    )
    func isolation(level: String) async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(1)
            let calls = [
                "select * from breakwater.claim(\(worker.id), '{default}', '{k}', '{5}', '{1}', '{9}', '{9}', 9, true)",
                "select breakwater.cancel(1)", "select breakwater.set_priority(1, 2)",
                "select * from breakwater.claim_suspects(\(worker.id))",
            ]
            for call in calls {
                let session = try await database.connectDirectly()
                _ = try await session.query("set default_transaction_isolation = '\(level)'")
                let error = await postgresError { _ = try await session.query(call) }
                #expect(error?.sqlState == "25000", "\(call)")
                #expect(error?.message.contains("READ COMMITTED") == true)
                await session.close()
            }
            #expect(try await database.heldJobs() == [])
        }
    }

    @Test(
        "a worker does its jobs whatever its role's defaults are",
        arguments: [
            "default_transaction_isolation = 'serializable'", "default_transaction_isolation = 'repeatable read'",
            "default_transaction_read_only = on", "statement_timeout = '200ms'", "idle_session_timeout = '100ms'",
            "lock_timeout = '1ms'",
        ]
    )
    func roleDefaults(setting: String) async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            try await withLoginRole(database, memberOf: "breakwater_worker") { role in
                try await database.query("alter role \(role) set \(setting)")
                try await database.insert(10)
                let options = ConnectionOptions(database.directURL, keywords: ["user": role, "password": "x"])
                let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
                try await database.withWorker([handler], configure: { $0.database = options }) {
                    try await waitUntil("all end") { try await database.count("job") == 0 }
                }
            }
        }
    }

    @Test(
        "sixteen workers start at once on a database whose default is SERIALIZABLE",
        .enabled(if: !TestDatabase.isPooled)
    )
    func startRace() async throws {
        try await withTestDatabase { database in
            try await database.query("alter database \(database.name) set default_transaction_isolation = serializable")
            let handlers = (0..<20).map {
                HandlerRegistration(kind: "k\($0)", plugin: ClosureHandler { _, _ in .succeeded() })
            }
            var configuration = WorkerConfiguration(database: database.options, handlers: handlers)
            configuration.lease = .seconds(30)
            let worker = Worker(configuration: configuration, logger: RecordedLog().logger())
            try await withThrowingTaskGroup(of: Void.self) { workers in
                for _ in 0..<16 { workers.addTask { try await worker.run() } }
                workers.addTask {
                    try await waitUntil("all are there") { try await database.count("worker") == 16 }
                }
                // If a worker cannot start, its error ends the test.
                try await workers.next()
                workers.cancelAll()
                try await workers.waitForAll()
            }
        }
    }

    @Test("no function takes an advisory lock, so a login without rights cannot block others with such locks")
    func noAdvisoryLock() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let named = try await database.texts(
                "select proname from pg_proc where pronamespace = 'breakwater'::regnamespace and prosrc ilike '%advisory%'"
            )
            #expect(named == [])
            let worker = try await HandWorker(database)
            try await withLoginRole(database) { role in
                let login = try await Connection.connect(
                    ConnectionOptions(database.directURL, keywords: ["user": role, "password": "x"]),
                    logger: RecordedLog().logger()
                )
                _ = try await login.query("begin")
                for key in ["7093843832151176044", "1", "0"] {
                    _ = try await login.query("select pg_advisory_lock(\(key))")
                }
                let tables = try await database.texts(
                    "select oid::regclass::text from pg_class where relnamespace = 'breakwater'::regnamespace and relkind = 'r'"
                )
                for table in tables {
                    _ = try await login.query("savepoint s")
                    let error = await postgresError {
                        _ = try await login.query("lock table \(table) in access share mode")
                    }
                    #expect(error?.sqlState == "42501", "\(table)")
                    _ = try await login.query("rollback to s")
                }
                _ = try await worker.connection.query("set statement_timeout = '5s'")
                try await worker.query("select breakwater.sleep($1, '{k}')", [.int8(worker.id)])
                try await worker.query("insert into breakwater.job (kind) values ('k')")
                try await worker.maintain()
                #expect(try await worker.claim().count == 1)
                #expect(try await worker.connection.call(Leave(worker: worker.id)) == 1)
                await login.close()
            }
        }
    }
}
