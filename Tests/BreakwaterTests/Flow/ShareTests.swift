import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Fair shares", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ShareTests {
    private func worker(_ database: TestDatabase) async throws -> HandWorker {
        try await HandWorker(database) { $0.share = ["tenant"] }
    }

    private func insert(_ count: Int, of tenant: String, priority: Int = 5, into database: TestDatabase) async throws {
        try await database.query(
            """
            insert into breakwater.job (kind, priority, payload)
            select 'k', $3, jsonb_build_object('tenant', $1::text) from generate_series(1, $2)
            """,
            [.text(tenant), .int4(Int32(count)), .int4(Int32(priority))]
        )
    }

    private func tenants(_ jobs: [Job]) -> [String: Int] {
        Dictionary(grouping: jobs) { $0.payload.split(separator: "\"")[3] }.reduce(into: [:]) {
            $0[String($1.key)] = $1.value.count
        }
    }

    @Test("give each tenant as many slots, however many jobs one of them enqueued first")
    func even() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await insert(3000, of: "big", into: database)
            for tenant in ["b", "c", "d"] { try await insert(50, of: tenant, into: database) }
            // Each claim sees a portion of the backlog.
            for _ in 1...8 { try await worker.settle(try await worker.claim(4)) }
            #expect(tenants(try await worker.claim(40)) == ["big": 10, "b": 10, "c": 10, "d": 10])
        }
    }

    @Test("start a whole portion without holding it back, unless a tenant waits")
    func wholePortion() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await insert(600, of: "a", into: database)
            try await insert(100, of: "b", into: database)
            #expect(tenants(try await worker.claim(700)) == ["a": 600, "b": 100])
            #expect(try await database.number("select count(*) from breakwater.share_turn") == 0)
            #expect(try await database.number("select count(*) from breakwater.job where run_at is not null") == 0)

            try await insert(900, of: "c", into: database)
            try await insert(100, of: "d", into: database)
            // These slots are fewer than a portion, so the portion is held back, and the next claim finds it.
            #expect(tenants(try await worker.claim(10)) == ["c": 10])
            #expect(tenants(try await worker.claim(550)) == ["c": 450, "d": 100])
            // Nobody waits once the rest was taken, although these jobs are still running.
            #expect(tenants(try await worker.claim(440)) == ["c": 440])
            #expect(try await database.number("select count(*) from breakwater.share_turn") == 0)
        }
    }

    @Test("count the slots that a tenant holds, so that slow jobs do not take more")
    func slots() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await insert(20, of: "slow", into: database)
            #expect(try await worker.claim(6).count == 6)
            try await insert(20, of: "quick", into: database)
            let quick = try await worker.claim(6)
            #expect(tenants(quick) == ["quick": 6])
            try await worker.settle(quick)
            #expect(tenants(try await worker.claim(6)) == ["quick": 6])
        }
    }

    @Test("leave no slot idle while a tenant has jobs")
    func workConserving() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await insert(100, of: "a", into: database)
            try await insert(3, of: "b", into: database)
            #expect(try await worker.claim(50).count == 50)
            #expect(tenants(try await worker.claim(50)) == ["a": 50 + 3 - 3 - 0, "b": 0].filter { $0.value > 0 })
        }
    }

    @Test("follow the weights that are set")
    func weights() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await database.query("select breakwater.set_share_weight('k', 'gold', 3)")
            try await insert(100, of: "gold", into: database)
            try await insert(100, of: "plain", into: database)
            #expect(tenants(try await worker.claim(40)) == ["gold": 30, "plain": 10])
        }
    }

    @Test("keep the priorities within a tenant")
    func priorities() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await insert(5, of: "a", priority: 7, into: database)
            try await insert(5, of: "b", priority: 7, into: database)
            #expect(try await worker.claim(2).count == 2)
            try await insert(2, of: "a", priority: 1, into: database)
            let next = try await worker.claim(4)
            #expect(Set(next.map(\.id)).isSuperset(of: [11, 12]))
            #expect(tenants(next) == ["a": 2, "b": 2])
        }
    }

    @Test("are probed while their circuit is half-open, although all jobs are held back")
    func probes() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await insert(20, of: "a", into: database)
            let first = try await worker.claim(1)
            try await database.query(
                "update breakwater.circuit set state = 'half_open', generation = generation + 1, since = now() where kind = 'k'"
            )
            try await worker.settle(first)
            try await worker.maintain()
            #expect(try await worker.claim().allSatisfy(\.isProbe))
            #expect(try await database.count("probe") > 0)
        }
    }

    @Test("explain a waiting job as one that is ready, and count it as work for more workers")
    func explained() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await insert(10, of: "a", into: database)
            #expect(try await worker.claim(4).count == 4)
            #expect(try await database.text("select state from breakwater.job_status where id = 9") == "ready")
            #expect(
                try await database.text("select why from breakwater.job_status where id = 9")
                    == "its turn among the tenants has not come: tenant a runs 4 jobs"
            )
            #expect(
                try await database.text("select ready || ' ' || running || ' ' || held from breakwater.scaling")
                    == "6 4 0"
            )
        }
    }

    @Test("rotate among more tenants than one claim looks at")
    func manyTenants() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            for _ in 1...3 {
                try await database.query(
                    "insert into breakwater.job (kind, payload) select 'k', jsonb_build_object('tenant', 't' || g) from generate_series(1, 200) g"
                )
            }
            var seen: [String: Int] = [:]
            for _ in 1...20 {
                let jobs = try await worker.claim(10)
                for (tenant, count) in tenants(jobs) { seen[tenant, default: 0] += count }
                try await worker.settle(jobs)
            }
            #expect(seen.count == 200)
        }
    }
}
