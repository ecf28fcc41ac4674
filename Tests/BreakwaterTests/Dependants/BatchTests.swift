import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

@Suite("Batches", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct BatchTests {
    /// Creates a batch whose callback has the kind `done`.
    private func batch(_ database: TestDatabase, _ arguments: String = "") async throws -> Int64 {
        Int64(try await database.number("select breakwater.batch('done'\(arguments.isEmpty ? "" : ", " + arguments))"))
    }

    private func worker(_ database: TestDatabase, keepsResults: Bool = false) async throws -> HandWorker {
        try await HandWorker(database, ["k", "done"]) { if keepsResults { $0.keepResults = .seconds(3600) } }
    }

    @Test("run their callback once, when all jobs have ended, and tell it how")
    func callback() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            let id = try await batch(database, "payload => '{\"day\": 1}'")
            try await database.query(
                "select breakwater.enqueue_many('k', array_fill('{}'::jsonb, array[5]), batch => $1)",
                [.int8(id)]
            )
            let jobs = try await worker.claim()
            #expect(jobs.count == 5)
            try await worker.settle(Array(jobs[..<3]))
            try await worker.settle([jobs[3]], .discarded)
            try await worker.maintain()
            #expect(try await worker.claim().isEmpty)
            let status = "select concat_ws(' ', state, jobs, waiting, succeeded, dead) from breakwater.batch_status"
            #expect(try await database.text(status) == "waiting 5 1 3 1")
            try await worker.settle([jobs[4]])
            try await worker.maintain()
            let callback = try await worker.claim()
            #expect(callback.map(\.id) == [id])
            #expect(
                try payload(of: callback)
                    == Callback(day: 1, batch: .init(id: id, jobs: 5, succeeded: 4, dead: 1))
            )
            #expect(try await database.text(status) == "ended 5 0 4 1")
            try await worker.settle(callback)
            try await worker.maintain()
            #expect(try await worker.claim().isEmpty)
        }
    }

    private func payload(of jobs: [Job]) throws -> Callback? {
        try jobs.first.map { try JSONDecoder().decode(Callback.self, from: Data($0.payload.utf8)) }
    }

    private struct Callback: Codable, Equatable {
        struct Batch: Codable, Equatable {
            var id, jobs, succeeded, dead: Int64
        }
        var day: Int?
        var batch: Batch
    }

    @Test("give the callback the results if asked")
    func results() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database, keepsResults: true)
            let id = try await batch(database, "with_results => true")
            let member = try await database.enqueue("'k', batch => \(id)")
            let other = try await database.enqueue("'k', batch => \(id)")
            try await database.query(
                "insert into breakwater.result (id, kind, result, expires_at) values ($1, 'k', '[7]', now() + interval '1 hour')",
                [.int8(member)]
            )
            let jobs = try await worker.claim()
            #expect(jobs.map(\.id) == [member, other])
            try await database.query("delete from breakwater.job where id = any ($1)", [.int8Array([member, other])])
            try await database.query(
                "select breakwater.end_dependencies($1, 'succeeded')",
                [.int8Array([member, other])]
            )
            try await worker.maintain()
            let text = "select (payload -> 'batch' -> 'results')::text from breakwater.job where id = \(id)"
            #expect(try await database.text(text) == "[{\"job\": \(member), \"result\": [7]}]")
        }
    }

    @Test("give the callback their counts alone if the results are too long")
    func resultsTooLong() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database, keepsResults: true)
            let id = try await batch(database, "with_results => true")
            let members = [
                try await database.enqueue("'k', batch => \(id)"), try await database.enqueue("'k', batch => \(id)"),
            ]
            try await worker.settle(try await worker.claim())
            // Together they are longer than a payload may be.
            try await database.query(
                """
                insert into breakwater.result (id, kind, result, expires_at)
                select m, 'k', to_jsonb(repeat('x', 35000000)), now() + interval '1 hour' from unnest($1::bigint[]) m
                on conflict (id) do update set result = excluded.result
                """,
                [.int8Array(members)]
            )
            try await worker.maintain()
            #expect(
                try await database.text("select (payload -> 'batch')::text from breakwater.job where id = \(id)")
                    == "{\"id\": \(id), \"dead\": 0, \"jobs\": 2, \"succeeded\": 2, \"results_too_long\": true}"
            )
            #expect(try await worker.claim().map(\.id) == [id])
        }
    }

    @Test("grow while one of their jobs runs, and not after they have ended")
    func growing() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            let id = try await batch(database)
            try await database.enqueue("'k', batch => \(id)")
            let first = try await worker.claim()
            try await database.enqueue("'k', batch => \(id)")
            try await worker.settle(first)
            try await worker.maintain()
            let second = try await worker.claim()
            #expect(second.count == 1 && second[0].id != id)
            try await worker.settle(second)
            try await worker.maintain()
            #expect(try await worker.claim().map(\.id) == [id])
            let error = await #expect(throws: PostgresError.self) {
                try await database.enqueue("'k', batch => \(id)")
            }
            #expect(error?.message == "the batch \(id) has ended")
        }
    }

    @Test("wait for a transaction that is adding a job to them")
    func growingInTransaction() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            let id = try await batch(database)
            try await database.enqueue("'k', batch => \(id)")
            let jobs = try await worker.claim()
            let adder = try await database.connect()
            _ = try await adder.query("begin")
            _ = try await adder.query("select breakwater.enqueue('k', batch => $1)", [.int8(id)])
            try await worker.settle(jobs)
            try await worker.maintain()
            #expect(try await worker.claim().isEmpty)
            _ = try await adder.query("commit")
            try await worker.maintain()
            let added = try await worker.claim()
            #expect(added.count == 1 && added[0].id != id)
            try await worker.settle(added)
            try await worker.maintain()
            #expect(try await worker.claim().map(\.id) == [id])
        }
    }

    @Test("end at once if they are empty, or when they are closed if they are open")
    func empty() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            let (empty, open) = (try await batch(database), try await batch(database, "open => true"))
            try await worker.maintain()
            #expect(try await worker.claim().map(\.id) == [empty])
            #expect(try await database.state(of: open)?.contains("until its batch is closed") == true)
            #expect(try await database.text("select breakwater.close_batch(\(open))::text") == "true")
            #expect(try await database.text("select breakwater.close_batch(\(open))::text") == "false")
            try await worker.maintain()
            #expect(try await worker.claim().map(\.id) == [open])
        }
    }

    @Test("take jobs that were inserted by hand")
    func addToBatch() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            let id = try await batch(database, "open => true")
            let ids = try await database.numbers("insert into breakwater.job (kind) values ('k'), ('k') returning id")
            let added = "select breakwater.add_to_batch(\(id), array[\(ids[0]), \(ids[1])])"
            #expect(try await database.number(added) == 2)
            #expect(try await database.number(added) == 0)
            try await database.query("select breakwater.close_batch(\(id))")
            try await worker.settle(try await worker.claim())
            try await worker.maintain()
            #expect(try await worker.claim().map(\.id) == [id])
        }
    }

    @Test("may be nested")
    func nested() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            let outer = try await batch(database)
            let inner = try await batch(database, "batch => \(outer)")
            try await database.enqueue("'k', batch => \(inner)")
            for expected in [nil, inner, outer] {
                let jobs = try await worker.claim()
                #expect(jobs.count == 1 && (expected == nil || jobs[0].id == expected))
                try await worker.settle(jobs)
                try await worker.maintain()
            }
            #expect(try await database.count("job") == 0)
        }
    }

    @Test("count a job that died and was redriven only once")
    func redriven() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            let id = try await batch(database)
            let member = try await database.enqueue("'k', batch => \(id)")
            try await database.enqueue("'k', batch => \(id)")
            let jobs = try await worker.claim()
            try await worker.settle([jobs[0]], .discarded)
            try await database.query("select breakwater.redrive(\(member))")
            try await worker.settle([jobs[1]])
            try await worker.maintain()
            let again = try await worker.claim()
            #expect(again.map(\.id) == [member])
            try await worker.settle(again)
            try await worker.maintain()
            let callback = try await worker.claim()
            #expect(try payload(of: callback)?.batch == .init(id: id, jobs: 2, succeeded: 2, dead: 0))
        }
    }

    @Test("refuse a cycle, also through others, and two halves of one at the same time")
    func cycles() async throws {
        try await withTestDatabase { database in
            let (one, two) = (try await batch(database, "open => true"), try await batch(database, "open => true"))
            for call in ["'k', batch => \(one), after => array[\(one)]"] {
                let error = await #expect(throws: PostgresError.self) { try await database.enqueue(call) }
                #expect(error?.message == "the batch \(one) would wait for itself")
            }
            let first = try await database.connect()
            _ = try await first.query("begin")
            _ = try await first.query(
                "select breakwater.enqueue('k', batch => $1, after => array[$2])",
                [.int8(one), .int8(two)]
            )
            let second = try await database.connect()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    let error = await #expect(throws: PostgresError.self) {
                        try await second.query(
                            "select breakwater.enqueue('k', batch => $1, after => array[$2])",
                            [.int8(two), .int8(one)]
                        )
                    }
                    #expect(error?.message == "the batch \(two) would wait for itself")
                }
                try await waitUntil("the second one waits for the first") {
                    try await database.number(
                        """
                        select count(*) from pg_locks
                         where relation = 'breakwater.dependency_lock'::regclass and not granted
                           and database = (select oid from pg_database where datname = current_database())
                        """
                    ) == 1
                }
                _ = try await first.query("commit")
                try await group.waitForAll()
            }
        }
    }

    @Test("refuse a callback whose payload is not an object")
    func payload() async throws {
        try await withTestDatabase { database in
            let error = await #expect(throws: PostgresError.self) { try await batch(database, "payload => '[1]'") }
            #expect(error?.message == "the payload of a batch's callback is a JSON array, not an object")
        }
    }

    @Test("show what waits for what")
    func tree() async throws {
        try await withTestDatabase { database in
            let outer = try await batch(database)
            let inner = try await batch(database, "batch => \(outer)")
            let member = try await database.enqueue("'k', batch => \(inner)")
            let tree = "select concat_ws(' ', direction, depth, job, kind, state) from breakwater.job_tree(%)"
            #expect(
                try await database.texts(tree.replacing("%", with: "\(outer)")) == [
                    "dependency 1 \(inner) done waiting", "dependency 2 \(member) k waiting",
                ]
            )
            #expect(
                try await database.texts(tree.replacing("%", with: "\(member)")) == [
                    "dependant 1 \(inner) done waiting", "dependant 2 \(outer) done waiting",
                ]
            )
        }
    }
}
