import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("A job that cannot be read", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct UnreadableTests {
    /// Inserts jobs that have this many numbers of 131,072 digits each in their payloads.
    private func insert(
        _ count: Int = 1,
        numbers: Int,
        kind: String = "k",
        in database: TestDatabase
    ) async throws {
        try await database.query(
            """
            insert into breakwater.job (kind, payload)
            select $1, (select jsonb_agg('1e131071'::numeric) from generate_series(1, $2)) from generate_series(1, $3)
            """,
            [.text(kind), .int4(Int32(numbers)), .int4(Int32(count))]
        )
    }

    private var noop: [HandlerRegistration] {
        ["k", "other"].map { HandlerRegistration(kind: $0, plugin: ClosureHandler { _, _ in .succeeded() }) }
    }

    @Test("is dead-lettered as unreadable, and everything else runs", arguments: [9000, 600])
    func bomb(numbers: Int) async throws {
        try await withTestDatabase { database in
            try await database.insert(30)
            try await self.insert(2, numbers: numbers, in: database)
            try await database.insert(30)
            try await database.insert(30, kind: "other")
            try await database.withWorker(noop) {
                try await waitUntil("all end") { try await database.count("job") == 0 }
            }
            let dead = try await database.texts(
                "select reason || ' ' || id || ' ' || payload || ' ' || (errors -> 0 ->> 'name') from breakwater.dead_letter"
            )
            #expect(Set(dead) == ["unreadable 31 null unreadable", "unreadable 32 null unreadable"])
            let message = try await database.texts(
                "select distinct errors -> 0 ->> 'message' from breakwater.dead_letter"
            )
            #expect(message.count == 1 && message[0].hasPrefix("the job cannot be read, and its payload is lost: "))
        }
    }

    @Test("cannot be redriven, for its payload is lost")
    func redrive() async throws {
        try await withTestDatabase { database in
            try await self.insert(numbers: 600, in: database)
            try await database.withWorker(noop) {
                try await waitUntil("it ends") { try await database.count("dead_letter") == 1 }
            }
            let refusal = try #require(
                await #expect(throws: PostgresError.self) { try await database.query("select breakwater.redrive(1)") }
            )
            #expect(refusal.message.contains("its payload could not be read, and is lost"))
            let bulk = try await database.query(
                "select done from breakwater.redrive_some(null, 'k', null, null, null, 10, null, 'me')"
            )
            #expect(try bulk[0][0].int() == 0)
            #expect(try await database.count("dead_letter") == 1)
        }
    }

    @Test(
        "does not keep other jobs from running, whether it is late, parked or a suspect",
        arguments: ["late", "parked", "suspect"]
    )
    func aside(place: String) async throws {
        try await withTestDatabase { database in
            if place == "late" {
                let hand = try await HandWorker(database, ["k", "other"])
                let late = try await database.connect()
                _ = try await late.query("begin")
                _ = try await late.query(
                    """
                    insert into breakwater.job (kind, payload)
                    select 'k', (select jsonb_agg('1e131071'::numeric) from generate_series(1, 600))
                    """
                )
                try await database.insert(5)
                try await hand.settle(try await hand.claim())
                _ = try await late.query("commit")
            } else {
                try await self.insert(numbers: 600, in: database)
                try await database.query(
                    place == "suspect"
                        ? "update breakwater.job set crashes = 2, run_at = 'infinity'"
                        : "update breakwater.job set parked = 'key', run_at = 'infinity'"
                )
                if place == "parked" {
                    try await database.query(
                        """
                        insert into breakwater.circuit (kind, key, state, generation, retry_at)
                        values ('k', 'key', 'half_open', 2, now())
                        """
                    )
                }
            }
            let keyed = noop.map {
                var registration = $0
                if place == "parked" { registration.settings.circuit.key = .path(["never"]) }
                return registration
            }
            try await database.withWorker(keyed) {
                try await database.insert(20, kind: "other")
                try await waitUntil("all end") { try await database.count("job") == 0 }
            }
            #expect(try await database.texts("select reason from breakwater.dead_letter") == ["unreadable"])
        }
    }

    @Test("with a payload beyond 64 MB is refused when it is enqueued")
    func door() async throws {
        try await withTestDatabase { database in
            let large = try #require(
                await #expect(throws: PostgresError.self) {
                    try await database.query(
                        "insert into breakwater.job (kind, payload) select 'k', to_jsonb(repeat('x', 70000000))"
                    )
                }
            )
            #expect(large.message.contains("payload_is_at_most_64_megabytes"))
        }
    }

    @Test(
        "a claim is bounded in bytes: jobs beyond its limit come with the next claim, in their order",
        arguments: [false, true]
    )
    func bounded(hasKeys: Bool) async throws {
        try await withTestDatabase { database in
            let hand = try await HandWorker(database) {
                if hasKeys { $0.circuit.key = .path(["host"]) }
            }
            try await database.query(
                """
                insert into breakwater.job (kind, payload)
                select 'k', jsonb_build_object('n', n, 'text', repeat('x', 3000000)) from generate_series(1, 10) n
                """
            )
            var claims: [[Int64]] = []
            while let jobs = try await Optional(hand.claim()), !jobs.isEmpty {
                claims.append(jobs.map(\.id))
                try await hand.settle(jobs)
            }
            #expect(claims == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10]])
        }
    }

    @Test("a worker holds only a few large payloads at once, and runs all of the jobs")
    func memory() async throws {
        try await withTestDatabase { database in
            try await database.query(
                """
                insert into breakwater.job (kind, payload)
                select 'k', to_jsonb(repeat('x', 8000000)) from generate_series(1, 24) n
                """
            )
            let door = Door()
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { job, _ in
                    try await door.pass()
                    return job.payload.utf8.count == 8_000_002
                        ? .succeeded() : .discarded(JobFailure("payload", "short"))
                }
            )
            try await database.withWorker([handler], configure: { $0.concurrency = 24 }) {
                try await waitUntil("some run") { door.waiting >= 8 }
                let held = try await database.heldJobs()
                #expect(held.count <= 10, "\(held.count) jobs are held")
                door.open()
                try await waitUntil("all end") { try await database.count("job") == 0 }
            }
            #expect(try await database.count("dead_letter") == 0)
        }
    }
}
