import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

/// The choice of probes by a half-open circuit.
@Suite("Samples of probes", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ProbeSampleTests {
    @Test("probes come from the whole lane, and jobs that have failed are taken last")
    func samples() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.circuit.probes = 5 }
            try await database.query(
                """
                insert into breakwater.job (kind, errors, attempt)
                select 'k', case when n <= 40 then '[{"class": "failed"}]'::jsonb end, (n <= 40)::integer
                  from generate_series(1, 1000) n
                """
            )
            try await database.query("update breakwater.circuit set state = 'half_open'")
            let probes = try await worker.claim().map(\.id)
            #expect(probes.count == 5)
            // The newest job is a probe, jobs from the middle are, and no job that has failed is.
            #expect(probes.contains(1000))
            #expect(probes.allSatisfy { $0 > 40 })
            #expect(probes.contains { $0 < 900 })
            // The lane continues where it was, and skips the jobs that run.
            try await database.query("update breakwater.circuit set state = 'closed'")
            let rest = try await worker.claim(2000).map(\.id)
            #expect(rest == (1...1000).filter { !probes.contains($0) })
            #expect(try await database.count("held") == 1000)
        }
    }

    @Test("a half-open claim reads as much of a long lane as of a short one", arguments: [false, true])
    func sampleCost(haveFailed: Bool) async throws {
        var pages: [Int] = []
        for count in [300, 100_000] {
            try await withTestDatabase { database in
                let worker = try await HandWorker(database)
                try await database.query(
                    """
                    insert into breakwater.job (kind, errors)
                    select 'k', case when $2 then '[{"class": "failed"}]'::jsonb end from generate_series(1, $1)
                    """,
                    [.int4(Int32(count)), .bool(haveFailed)]
                )
                try await database.query("vacuum analyze breakwater.job")
                try await database.query("update breakwater.circuit set state = 'half_open'")
                let claim = "breakwater.claim(\(worker.id), '{default}', '{k}', '{5}', '{1}', '{30}', '{30}', 30, true)"
                // The first claim reads the catalogue as well.
                try await worker.connection.script("begin; select * from \(claim); rollback; begin")
                let plan = try await worker.connection.query(
                    "explain (analyze, buffers, format json) select * from \(claim)"
                )
                try await worker.connection.script("rollback")
                let text = try plan[0][0].string()
                let hits = text.matches(of: /"Shared (?:Hit|Read) Blocks": (\d+)/).prefix(2).compactMap { Int($0.1) }
                pages.append(hits.reduce(0, +))
            }
        }
        print("half-open claims: \(pages[0]) pages of 300 jobs, \(pages[1]) of 100,000")
        #expect(pages[1] <= pages[0] * 2)
    }

    @Test("if all jobs have failed, those with the fewest failures are probes, and none twice in a row")
    func samplesOfFailed() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { settings in
                settings.circuit.probes = 2
                settings.circuit.successesToClose = 2
                settings.circuit.failureRate = nil
                settings.circuit.openFor = .seconds(10)
            }
            worker.setClock(0)
            try await database.query(
                """
                insert into breakwater.job (kind, errors, attempt)
                select 'k', (select jsonb_agg('{"class": "failed"}'::jsonb) from generate_series(1, 1 + n % 3)), 1
                  from generate_series(1, 9) n
                """
            )
            try await database.query("update breakwater.circuit set state = 'half_open', is_checked = true")
            let first = try await worker.claim()
            #expect(Set(first.map(\.id)).isSubset(of: [3, 6, 9]) && first.count == 2)
            try await worker.settle(first, .failed())
            #expect(try await database.text("select state from breakwater.circuit where key = ''") == "open")
            worker.setClock(100)
            let second = try await worker.claim()
            #expect(second.count == 2 && Set(second.map(\.id)).isDisjoint(with: first.map(\.id)))
        }
    }

    @Test("jobs that were claimed and given back are not the newest, though they are at the end of their lane")
    func releasedAreNotNewest() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.circuit.probes = 2 }
            try await database.insert(60)
            let claimed = try await worker.claim(15)
            try await worker.settle(claimed, .released, claims: Array(Set(claimed.map(\.lease))))
            try await database.query("update breakwater.circuit set state = 'half_open'")
            // The probes are the oldest job and the newest.
            #expect(try await worker.claim().map(\.id).sorted() == [16, 60])
        }
    }
}
