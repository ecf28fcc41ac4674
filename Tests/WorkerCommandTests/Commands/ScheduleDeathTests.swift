import BreakwaterTesting
import Foundation
import Libpq
import Testing

/// Kills leaders while schedules run. `BREAKWATER_KILL_SECONDS` says for how long; 15 seconds unless set.
@Suite(
    "Schedules and dying leaders",
    .enabled(if: TestDatabase.isAvailable && WorkerBinary.isBuilt, "BREAKWATER_TEST_DATABASE or the program is missing")
)
struct ScheduleDeathTests {
    /// The jobs are of a kind that no worker handles, so that they stay to be counted.
    private static let file = """
        handlers: { other: { exec: { command: ["true"] } } }
        schedules:
          tick: { every: 1s, kind: tick, missed: all, missed_limit: 1000 }
          tock: { every: 2s, kind: tock, missed: all, missed_limit: 1000 }
        """

    private static var duration: Duration {
        .seconds(Int(ProcessInfo.processInfo.environment["BREAKWATER_KILL_SECONDS"] ?? "") ?? 15)
    }

    /// Kills a worker process each second, the one that leads if one of these does, and starts another in its place.
    private func killLeaders(_ database: TestDatabase, config: String) async throws -> Int {
        var runs: [String: WorkerBinary.Run] = [:]
        var started = 0
        func start() throws {
            started += 1
            let name = "w\(started)"
            runs[name] = try WorkerBinary.Run(
                ["run", "--config", config, "--database", database.url, "--name", name]
            )
        }
        for _ in 0..<3 { try start() }
        var killedLeaders = 0
        let end = ContinuousClock.now + Self.duration
        while ContinuousClock.now < end {
            try await Task.sleep(for: .seconds(1))
            let leader = try await database.text("select name from breakwater.worker_status where leads")
            guard let name = runs[leader] == nil ? nil : leader, let run = runs.removeValue(forKey: name) else {
                continue
            }
            run.signal(SIGKILL)
            _ = try await run.end()
            killedLeaders += 1
            try start()
        }
        // One more leader deals with what the last one left.
        try await waitUntil("all due slots are dealt with", deadline: .seconds(60)) {
            try await database.number(
                "select count(*) from breakwater.schedule where next_at < now() - interval '1500 ms'"
            ) == 0
        }
        for run in runs.values {
            run.signal(SIGKILL)
            _ = try await run.end()
        }
        return killedLeaders
    }

    @Test("no slot comes twice, and none is missing, however many leaders are killed")
    func leaders() async throws {
        try await withTestDatabase { database in
            // Enqueueing takes so long that a leader is often killed in the middle of it.
            try await database.connection.script(
                """
                create function public.hesitate() returns trigger language plpgsql as
                $$ begin perform pg_sleep(0.1); return new; end $$;
                create trigger hesitate before insert on breakwater.job for each row execute function public.hesitate();
                """
            )
            let killed = try await withFile(Self.file) { try await killLeaders(database, config: $0) }
            #expect(killed >= 2, "leaders were killed")
            for (kind, seconds) in [("tick", 1), ("tock", 2)] {
                let row = try await database.query(
                    """
                    select count(*), count(distinct s), (1 + extract(epoch from max(s) - min(s)) / $2)::bigint
                      from (select (payload #>> '{schedule,slot}')::timestamptz as s from breakwater.job where kind = $1) j
                    """,
                    [.text(kind), .int4(Int32(seconds))]
                )[0]
                let (jobs, slots, expected) = (try row[0].int64(), try row[1].int64(), try row[2].int64())
                #expect(jobs == slots, "\(kind): no slot comes twice")
                #expect(slots == expected, "\(kind): none is missing")
                #expect(jobs >= 10 / Int64(seconds))
                #expect(
                    try await database.number(
                        "select missed_slots from breakwater.schedule where name = $1",
                        [.text(kind)]
                    ) == 0
                )
            }
        }
    }
}
