import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Sequences that are behind their rows", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct SequenceTests {
    /// Sets every sequence back to its start, which is the state after an upgrade by logical replication.
    private func restart(_ database: TestDatabase) async throws {
        try await database.query(
            """
            select setval(format('%I.%I', schemaname, sequencename)::regclass, 1, false)
              from pg_sequences where schemaname = 'breakwater' and sequencename <> 'anyone_asleep'
            """
        )
    }

    /// Leaves three jobs that ended, a dead letter, a job that retries, and two ready jobs.
    private func fill(_ database: TestDatabase) async throws -> HandWorker {
        let worker = try await HandWorker(database)
        try await database.insert(7)
        try await worker.settle(try await worker.claim(3))
        try await worker.settle(try await worker.claim(1), .discarded)
        try await worker.settle(try await worker.claim(1), .failed(delay: .seconds(3600)))
        try await worker.maintain()
        return worker
    }

    @Test("are found and repaired when a worker starts, and the worker works normally")
    func atStart() async throws {
        try await withTestDatabase { database in
            let before = try await fill(database)
            try await restart(database)
            let worker = try await HandWorker(database)
            #expect(worker.id > before.id)
            try await database.insert(3)
            #expect(try await database.numbers("select id from breakwater.job order by id") == [5, 6, 7, 8, 9, 10])
            let jobs = try await worker.claim()
            #expect(jobs.map(\.id) == [6, 7, 8, 9, 10])
            #expect(try await worker.settle(jobs).settled == 5)
        }
    }

    @Test("are found and repaired by the leader while workers run")
    func byTheLeader() async throws {
        try await withTestDatabase { database in
            let worker = try await fill(database)
            try await restart(database)
            try await waitUntil("the leader looks") {
                try await worker.maintain()
                return try await database.number("select last_value from breakwater.job_id_seq") == 7
            }
            try await database.insert(1)
            #expect(try await worker.claim().map(\.id) == [6, 7, 8])
        }
    }

    @Test("are none where no job has ever been")
    func fresh() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            for _ in 1...2 { try await worker.maintain() }
            #expect(try await database.count("horizon") == 1)
            #expect(try await Schema.repairSequences(on: database.connection).isEmpty)
        }
    }

    @Test("are named with their old and new numbers")
    func named() async throws {
        try await withTestDatabase { database in
            _ = try await fill(database)
            #expect(try await Schema.repairSequences(on: database.connection).isEmpty)
            try await database.query("select setval('breakwater.job_id_seq', 2)")
            let repairs = try await Schema.repairSequences(on: database.connection)
            #expect(repairs == [.init(sequence: "breakwater.job_id_seq", stoodAt: 2, goesOnAfter: 7)])
            #expect(try await Schema.repairSequences(on: database.connection).isEmpty)
        }
    }

    @Test("each sequence of the schema is checked")
    func allOfThem() async throws {
        try await withTestDatabase { database in
            let forgotten = try await database.texts(
                """
                select sequencename from pg_sequences
                 where schemaname = 'breakwater' and sequencename <> 'anyone_asleep'
                   and format('%I.%I', schemaname, sequencename)::regclass
                       not in (select sequence from breakwater.numbers_beyond(false))
                """
            )
            #expect(forgotten.isEmpty)
        }
    }

    @Test("a number far beyond all others, written by hand, does not use up a sequence")
    func absurdNumbers() async throws {
        try await withTestDatabase { database in
            _ = try await fill(database)
            try await database.query(
                """
                insert into breakwater.job (id, kind, position) overriding system value
                values (9223372036854775807, 'k', 9223372036854775807)
                """
            )
            #expect(try await Schema.repairSequences(on: database.connection).isEmpty)
        }
    }

    @Test("a job that has the number of a dead letter dies once, under a new number; both letters are kept")
    func collidingDeadLetter() async throws {
        try await withTestDatabase { database in
            let worker = try await fill(database)
            // A producer did this before the sequence was repaired.
            try await database.query(
                #"insert into breakwater.job (id, kind, payload) overriding system value values (4, 'k', '{"new": true}')"#
            )
            let jobs = try await worker.claim().filter { $0.id == 4 }
            #expect(try await worker.settle(jobs, .discarded).settled == 1)
            #expect(try await database.number("select count(*) from breakwater.job where id = 4") == 0)
            let letters = try await database.texts(
                "select id || ' ' || payload from breakwater.dead_letter order by id"
            )
            #expect(letters == ["4 {}", #"8 {"new": true}"#])
        }
    }

    @Test(
        "a dead letter whose number another job has is redriven under a new number",
        arguments: ["redrive(4)", "redrive('k')"]
    )
    func collidingRedrive(call: String) async throws {
        try await withTestDatabase { database in
            let worker = try await fill(database)
            try await database.query(
                #"insert into breakwater.job (id, kind, payload) overriding system value values (4, 'k', '{"new": true}')"#
            )
            try await database.query("select breakwater.\(call)")
            #expect(try await database.count("dead_letter") == 0)
            #expect(try await worker.claim().map(\.id).sorted() == [4, 6, 7, 8])
        }
    }
}
