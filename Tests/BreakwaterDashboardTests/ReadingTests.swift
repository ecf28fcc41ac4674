import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import BreakwaterAdmin
@testable import BreakwaterDashboard

@Suite("The dashboard's queries", .enabled(if: TestDatabase.isAvailable))
struct ReadingTests {
    private func admin(_ database: TestDatabase) -> AdminDatabase {
        AdminDatabase(connection: database.connection, place: "test", limit: .seconds(30))
    }

    @Test("the backlog names at most 500 queues and kinds, those that workers have handled first")
    func inventedKinds() async throws {
        try await withTestDatabase { database in
            // Any user who may enqueue can invent kinds. The real kinds come last in every order.
            try await database.query(
                "insert into breakwater.job (kind) select 'a' || i from generate_series(1, 3000) i"
            )
            try await database.query(
                "insert into breakwater.job (kind, run_at) select 'b' || i, now() + '1 h' from generate_series(1, 12000) i"
            )
            try await database.query(
                """
                insert into breakwater.handler (kind, timeout, max_attempts, keep_results, circuit_enabled, minimum_calls,
                    open_for, open_factor, open_cap, probes, successes_to_close, ramp, suspends_workers, fallback)
                select 'zz' || i, '1s', 3, '0', true, 5, '1s', 2, '1s', 3, 2, '1s', true, 'hold' from generate_series(1, 3) i
                """
            )
            try await database.query(
                "insert into breakwater.lane (queue, kind, priority) select 'zq', 'zz' || i, 9 from generate_series(1, 3) i"
            )
            try await database.query(
                "insert into breakwater.job (kind, queue, priority) select 'zz' || i, 'zq', 9 from generate_series(1, 2) i"
            )
            try await database.query(
                "insert into breakwater.job (kind, queue, attempt, run_at) values ('zz3', 'zq', 1, now() + interval '2 h')"
            )
            let lines = try await admin(database).backlog()
            #expect(lines.count == AdminDatabase.nameCap)
            let real = lines.filter { $0.kind.hasPrefix("zz") }
            #expect(real.map(\.kind) == ["zz1", "zz2", "zz3"])
            #expect(real.map(\.ready) == [1, 1, 0] && real.map(\.retrying) == [0, 0, 1])
            let work = try await database.query("select queue, kind, ready from breakwater.workload()")
            #expect(work.count <= 1003)
            #expect(try work.contains { try $0["kind"].string() == "zz1" && $0["ready"].int() == 1 })
        }
    }

    @Test("the backlog agrees with the exact view, below the cap")
    func backlog() async throws {
        try await withTestDatabase { database in
            try await database.query(
                """
                insert into breakwater.job (kind, queue, priority, run_at, attempt)
                select 'k' || i % 3, 'q' || i % 2, i % 5, case when i % 4 = 0 then now() + interval '1 h' end,
                       case when i % 8 = 0 then 1 else 0 end
                  from generate_series(1, 240) i
                """
            )
            let lines = try await admin(database).backlog()
            let exact = try await admin(database).depths()
            #expect(lines.count == exact.count && !lines.isEmpty)
            for line in lines {
                let other = try #require(exact.first { $0.queue == line.queue && $0.kind == line.kind })
                let counted: [Int] = [line.ready, line.running, line.scheduled, line.retrying, line.parked]
                let right: [Int] = [other.ready, other.running, other.scheduled, other.retrying, other.parked]
                #expect(counted == right)
                #expect(!line.isCapped)
            }
            let capped = try await database.numbers("select ready from breakwater.backlog(7) order by 1")
            #expect(capped.allSatisfy { $0 <= 7 * 5 } && capped.contains { $0 > 0 })
        }
    }

    @Test("a search finds all matching jobs, newest first, page by page, and stops at the end")
    func search() async throws {
        try await withTestDatabase { database in
            try await database.query(
                """
                insert into breakwater.job (kind, payload, run_at)
                select 'k' || i % 2, jsonb_build_object('n', i), case when i % 5 = 0 then now() + interval '1 h' end
                  from generate_series(1, 1000) i
                """
            )
            var filter = JobFilter()
            filter.kind = "k0"
            filter.state = .scheduled
            filter.path = "$.n > 100"
            var found: [Int64] = []
            var before: Int64?
            repeat {
                let page = try await admin(database).findJobs(filter, before: before, page: 40, cap: 1000)
                #expect(page.jobs.count <= 40)
                found += page.jobs.map(\.id)
                before = page.next
            } while before != nil
            let expected = try await database.numbers(
                "select id from breakwater.job where kind = 'k0' and run_at is not null and payload @@ '$.n > 100' order by id desc"
            )
            #expect(found == expected && found.count == 90)
            filter.state = .running
            #expect(try await admin(database).findJobs(filter, before: nil, page: 40, cap: 10).jobs.isEmpty)
        }
    }

    @Test("failures with the same cause are one group, whatever the numbers in them are")
    func groups() async throws {
        try await withTestDatabase { database in
            try await database.query(
                """
                insert into breakwater.dead_letter (id, queue, kind, priority, payload, reason, attempt, errors, enqueued_at)
                select i, 'q', 'k', 5, '{}', 'exhausted', 1,
                       case when i % 10 = 0 then '[]' else jsonb_build_array(jsonb_build_object(
                           'name', 'http.503', 'message', format('10.0.0.%s:80%s refused order %s of %s', i, i, i, gen_random_uuid()))) end,
                       now()
                  from generate_series(1, 100) i
                """
            )
            let groups = try await admin(database).deadLetterGroups(kind: nil, limit: 10)
            #expect(groups.map(\.failure) == ["", "http.503: # refused order # of #"])
            #expect(groups.map(\.count) == [10, 90])
        }
    }

    @Test("rates are summed up once, and the current minute is shown before that")
    func rates() async throws {
        try await withTestDatabase { database in
            try await database.query(
                "update breakwater.rate_horizon set minute = date_trunc('minute', now()) - interval '5 min'"
            )
            try await database.query(
                """
                insert into breakwater.tally (kind, generation, slot, worker, succeeded, failed, slow, retries, trailing_failures)
                select 'k', 1, date_trunc('minute', now()) - make_interval(mins => m), w, 10 * (m + 1), m, 0, 0, 0
                  from generate_series(0, 3) m, generate_series(1, 2) w
                """
            )
            for _ in 1...2 { try await database.query("select breakwater.aggregate_rates()") }
            let rates = try await admin(database).rates(minutes: 4)
            // If a minute ends during the test, one more minute is shown after it.
            let all = rates.map(\.succeeded) + [0]
            #expect(all.starts(with: [80, 60, 40, 20]) || all.starts(with: [60, 40, 20]), "\(rates)")
        }
    }

    @Test("an open circuit's window is the one that opened it")
    func windows() async throws {
        try await withTestDatabase { database in
            try await SiteTests.furnish(database)
            try await database.query("select breakwater.reset_circuit('k', 'r')")
            let generation = try await database.number("select generation from breakwater.circuit")
            try await database.query(
                """
                insert into breakwater.tally (kind, generation, slot, worker, succeeded, failed, slow, retries, trailing_failures)
                values ('k', $1, date_trunc('second', now()) - interval '5 s', 1, 3, 7, 0, 0, 0)
                """,
                [.int8(Int64(generation))]
            )
            let id = CircuitID(kind: "k", key: "")
            for state in ["closed", "open"] {
                let window = try #require(try await admin(database).windows(of: [id], parts: 40)[id])
                #expect(window.parts.count == 40 && window.seconds == 60, "\(state)")
                #expect(window.parts.reduce(0) { $0 + $1.failed } == 7, "\(state)")
                #expect(window.parts.reduce(0) { $0 + $1.succeeded } == 3, "\(state)")
                try await database.query("select breakwater.transition('k', '', 'open', 'r', null, null, null)")
            }
        }
    }

    @Test("the next circuit to be probed comes first, with the number of jobs behind it")
    func circuits() async throws {
        try await withTestDatabase { database in
            try await database.query(
                "insert into breakwater.circuit (kind, key) select 'k' || i, '' from generate_series(1, 9) i"
            )
            try await database.query("update breakwater.circuit set state = 'open' where kind = 'k7'")
            let some = try await admin(database).someCircuits(limit: 3)
            #expect(some.map(\.id.kind) == ["k7", "k1", "k2"])
            #expect(try await admin(database).circuitCounts() == ["closed": 8, "open": 1])
            try await SiteTests.furnish(database)
            let one = try await admin(database).someCircuits(.init(kind: "k", key: ""), limit: 1)
            #expect(one.first?.waiting == 2)
        }
    }

    @Test("a circuit's history is cut into stretches")
    func stretches() {
        func transition(_ generation: Int64, _ from: String, _ to: String, _ at: TimeInterval) -> RecordedTransition {
            RecordedTransition(
                circuit: .init(kind: "k", key: ""),
                circuitName: "k",
                at: Date(timeIntervalSince1970: at),
                generation: generation,
                from: from,
                to: to,
                reason: "",
                actor: nil,
                worker: nil,
                workerName: nil
            )
        }
        let stretches = Stretch.of(
            [
                transition(3, "open", "half_open", 75), transition(2, "closed", "open", 50),
                transition(1, "open", "closed", -5),
            ],
            state: "half_open",
            from: Date(timeIntervalSince1970: 0),
            to: Date(timeIntervalSince1970: 100)
        )
        #expect(
            stretches == [
                Stretch(state: "closed", from: 0, to: 0.5), Stretch(state: "open", from: 0.5, to: 0.75),
                Stretch(state: "half_open", from: 0.75, to: 1),
            ]
        )
    }
}
