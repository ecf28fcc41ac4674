import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import BreakwaterDashboard

@Suite("The dashboard's pages of jobs that have ended", .enabled(if: TestDatabase.isAvailable))
struct EndedJobsTests {
    private func furnish(_ database: TestDatabase) async throws {
        try await SiteTests.furnish(database)
        try await database.query(
            "update breakwater.handler set writes_history = true, history_keep = '7 days', history_key = '{customer}'"
        )
        try await database.query("select breakwater.add_history_days()")
        try await database.query(
            """
            insert into breakwater.finished_job (id, kind, queue, priority, outcome, attempt, key, enqueued_at, ready_at,
                                                 claimed_at, finished_at, worker_name, traceparent, payload)
            select 3000000 + i, 'k', 'q', 5, 'succeeded', 2, 'customer' || i % 2, now(), now(), now(),
                   now() - i * interval '1 second', 'worker-7', '00-trace', jsonb_build_object('n', i)
              from generate_series(1, 120) i
            """
        )
    }

    @Test("list and search them beside those that wait, page by page")
    func list() async throws {
        try await withSite { test in
            try await furnish(test.database)
            var ann = try await test.logIn("ann")
            let first = await ann.get("/jobs").text
            #expect(
                first.contains("/jobs/3000001\"") && first.contains("/jobs/1000000\"") && first.contains("/jobs/1\"")
            )
            #expect(!first.contains("/jobs/3000060\""))
            let address = try #require(first.firstMatch(of: /href="\/jobs\?([^"]*ended_id=[^"]*)"/)?.1)
            let second = await ann.get("/jobs", String(address).replacing("&amp;", with: "&")).text
            #expect(second.contains("/jobs/3000060\"") && !second.contains("/jobs/3000001\""))
            let key = await ann.get("/jobs", "key=customer1&state=succeeded").text
            #expect(key.contains("/jobs/3000001\"") && !key.contains("/jobs/3000002\"") && !key.contains("/jobs/1\""))
            let path = await ann.get("/jobs", "path=%24.n%20%3D%3D%207").text
            #expect(path.contains("/jobs/3000007\"") && !path.contains("/jobs/3000008\""))
        }
    }

    @Test("show one of them with its times, its worker, its trace and its payload")
    func one() async throws {
        try await withSite { test in
            try await furnish(test.database)
            var ann = try await test.logIn("ann")
            let page = await ann.get("/jobs/3000007").text
            for part in ["Succeeded", "customer1", "worker-7", "00-trace", "&quot;n&quot;: 7", "Enqueued"] {
                #expect(page.contains(part), "\(part) is missing")
            }
        }
    }

    @Test("run-now says that the job still waits, and for what")
    func stillWaits() async throws {
        try await withSite { test in
            try await SiteTests.furnish(test.database)
            var ann = try await test.logIn("ann")
            _ = await ann.post("/jobs/2/run-now", [:])
            let page = await ann.get("/jobs/2").text
            #expect(page.contains("The job is ready, but still waits:"))
        }
    }
}
