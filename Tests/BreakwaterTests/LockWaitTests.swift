import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("A session that holds up the others", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct LockWaitTests {
    @Test("by an open transaction in front of an ALTER TABLE is named in the log; no worker loses its jobs over it")
    func queuedDDL() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let log = RecordedLog()
            let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
            try await database.withLoggedWorker([handler], log) {
                try await database.insert()
                try await waitUntil("it works") { try await database.count("job") == 0 }
                let reader = try await database.connectDirectly()
                _ = try await reader.query("begin")
                _ = try await reader.query("select count(*) from breakwater.job")
                let pid = try await reader.query("select pg_backend_pid()")[0][0].int()
                let owner = try await database.connectDirectly()
                async let altered: Void = owner.script(
                    "alter table breakwater.job add column later integer",
                    timeout: .seconds(120)
                )
                try await waitUntil("the reader is named") {
                    log.lines.contains {
                        $0.contains("waits for a lock") && $0.contains("session \(pid) of the user")
                            && $0.contains("idle in transaction")
                    }
                }
                // Waiting until the lease of 10 s has ended would take longer. It is enough that heartbeats are
                // answered now.
                let beat = try await database.text("select beat_at::text from breakwater.worker")
                try await waitUntil("it beats") {
                    try await database.text("select beat_at::text from breakwater.worker") != beat
                }
                _ = try await reader.query("rollback")
                try await altered
                try await database.insert()
                try await waitUntil("it works again") { try await database.count("job") == 0 }
                await reader.close()
                await owner.close()
            }
            #expect(!log.messages.contains { $0.contains("lost its jobs") })
        }
    }

    @Test("and blocks a chore is named in the log")
    func chore() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let log = RecordedLog()
            let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
            let holder = try await database.connectDirectly()
            _ = try await holder.query("begin")
            _ = try await holder.query("lock table breakwater.result in access exclusive mode")
            let pid = try await holder.query("select pg_backend_pid()")[0][0].int()
            try await database.withLoggedWorker([handler], log) {
                try await waitUntil("the chore is named") {
                    log.lines.contains {
                        $0.contains("a chore of the fleet failed") && $0.contains("prune_results")
                            && $0.contains("session \(pid) of the user")
                    }
                }
                try await database.query("insert into breakwater.job (kind, run_at) values ('k', now())")
                try await waitUntil("the others go on") {
                    try await database.number("select count(*) from breakwater.job where run_at is not null") == 0
                }
            }
            await holder.close()
        }
    }

    @Test("and has a unique key makes a redrive give up after a while instead of waiting for ever")
    func redrive() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            try await database.query(
                """
                insert into breakwater.dead_letter (id, queue, kind, priority, payload, reason, attempt, unique_key, enqueued_at)
                values (1000, 'default', 'k', 5, '{}', 'exhausted', 1, 'u', now())
                """
            )
            let holder = try await database.connectDirectly()
            _ = try await holder.query("begin")
            _ = try await holder.query("insert into breakwater.job (kind, unique_key) values ('k', 'u')")
            for call in [
                "select breakwater.redrive(1000)",
                "select * from breakwater.redrive_some(null, 'k', null, null, null, 10, null, null)",
            ] {
                let error = await postgresError { try await database.query(call) }
                #expect(error?.sqlState == "55P03", "\(error as Any)")
            }
            #expect(try await database.count("dead_letter") == 1)
            await holder.close()
        }
    }

    @Test(
        "is found by breakwater.lock_waits: the head of the queue, a table's lock without a queue, a prepared transaction"
    )
    func heads() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            #expect(try await database.connection.call(LockWaits()) == [])
            let first = try await database.connectDirectly()
            _ = try await first.query("begin")
            _ = try await first.query("insert into breakwater.job (kind, unique_key) values ('k', 'u')")
            let pid = try await first.query("select pg_backend_pid()")[0][0].int()
            let second = try await database.connectDirectly()
            async let waiting = second.query(
                "insert into breakwater.job (kind, unique_key) values ('k', 'u') on conflict do nothing"
            )
            try await waitUntil("it is found") {
                let found = try await database.connection.call(LockWaits())
                return found.map(\.pid) == [pid] && found[0].waiting == 1
            }
            _ = try await first.query("rollback")
            _ = try await waiting
            _ = try await first.query("begin")
            _ = try await first.query("lock table breakwater.circuit in access exclusive mode")
            let found = try await database.connection.call(LockWaits())
            #expect(found.map(\.pid) == [pid])
            #expect(found.map(\.waiting) == [0])
            _ = try await first.query("rollback")
            await first.close()
            await second.close()
        }
    }
}
