import BreakwaterTesting
import Libpq
import Logging
import Testing

@testable import BreakwaterDashboard

@Suite(
    "The dashboard shows its pages and acts,",
    .enabled(if: TestDatabase.isAvailable, "BREAKWATER_TEST_DATABASE is not set")
)
struct SettingsTests {
    @Test("where the database sets", arguments: SessionSettings.alone + SessionSettings.together)
    func pages(settings: SessionSettings.Case) async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            try await database.query(
                """
                insert into breakwater.job (kind, run_at, errors)
                values ('k', null, null), ('k', 'infinity', null), ('k', '-infinity', null),
                       ('k', now() + interval '1 hour', '[{"name": "n", "message": "at 10.0.0.1"}]')
                """
            )
            try await database.query(
                """
                insert into breakwater.dead_letter (id, queue, kind, priority, payload, reason, attempt, errors, enqueued_at)
                values (1000, 'default', 'k', 5, '{}', 'exhausted', 1, '[{"name": "n", "message": "at 10.0.0.1"}]', now())
                """
            )
            try await database.query("insert into breakwater.circuit (kind) values ('k')")
            try await database.query("select breakwater.open_circuit('k', 'for ever', until => 'infinity')")
            try await database.set(settings.settings)
            var configuration = TestSite.configuration(ConnectionOptions(database.directURL))
            configuration.queryTimeout = .seconds(30)
            let site = Site(configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            let test = TestSite(site: site, database: database)
            var visitor = try await test.logIn("ann")
            for path in [
                "/", "/circuits", "/incidents", "/queues", "/jobs", "/dead-letters", "/workers", "/audit", "/jobs/1",
                "/jobs/2",
                "/jobs/1000",
            ] {
                let page = await visitor.get(path)
                #expect(page.status == 200, "\(path): \(page.text)")
            }
            let letters = await visitor.get("/dead-letters")
            #expect(letters.text.contains("n: at #"))
            let paused = await visitor.post("/queues/pause", ["scope": "kind", "name": "k", "reason": "a test"])
            #expect(paused.status == 303, "\(paused.text)")
            #expect(try await database.number("select count(*) from breakwater.pause") == 1)
            await site.database.close()
        }
    }

    @Test("and names the session that holds up its pages")
    func lockedTable() async throws {
        try await withSite({ $0.queryTimeout = .milliseconds(500) }) { test in
            let holder = try await test.database.connectDirectly()
            _ = try await holder.query("begin")
            _ = try await holder.query("lock table breakwater.job in access exclusive mode")
            let pid = try await holder.query("select pg_backend_pid()")[0][0].int()
            var visitor = try await test.logIn("ann")
            let page = await visitor.get("/queues")
            #expect(page.status == 503)
            #expect(page.text.contains("session \(pid) of the user"), "\(page.text)")
            await holder.close()
        }
    }
}
