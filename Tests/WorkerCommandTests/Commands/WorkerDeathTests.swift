import BreakwaterTesting
import Foundation
import Libpq
import Testing

/// Worker processes that die or stop in the middle of their work. The program is that of `scripts/chaos`, whose
/// handlers do what their payloads say.
@Suite(
    "Worker processes that die or stop",
    .enabled(if: TestDatabase.isAvailable && WorkerBinary.isBuilt, "BREAKWATER_TEST_DATABASE or the program is missing")
)
struct WorkerDeathTests {
    private static let file = """
        lease: 2s
        concurrency: 10
        shutdown_grace: 1s
        handlers:
          chaos.work: { swift: {}, keep_results: 1h, circuit: off }
          chaos.killer: { swift: {}, circuit: off }
        """

    private func enqueue(_ kind: String, _ what: String, ms: Int, count: Int = 1, in database: TestDatabase)
        async throws
    {
        try await database.query(
            """
            insert into breakwater.job (kind, payload)
            select $1, jsonb_build_object('n', n, 'what', $2, 'ms', $3) from generate_series(1, $4) n
            """,
            [.text(kind), .text(what), .int4(Int32(ms)), .int4(Int32(count))]
        )
    }

    @Test(
        "a job that kills its process ends as poison; the jobs beside it end, and are not charged",
        arguments: ["abort", "overflow", "eat"]
    )
    func killer(how: String) async throws {
        try await withTestDatabase { database in
            try await enqueue("chaos.killer", how, ms: 100, in: database)
            try await enqueue("chaos.work", "work", ms: 1500, count: 5, in: database)
            try await withFile(Self.file) { path in
                // This starts the worker again whenever it dies, as a supervisor would.
                let supervisor = Task {
                    var deaths = 0
                    while !Task.isCancelled {
                        let run = try WorkerBinary.Run(
                            ["run", "--config", path, "--database", database.url],
                            program: WorkerBinary.chaos,
                            environment: ["SWIFT_BACKTRACE": "enable=no"]
                        )
                        try await withTaskCancellationHandler {
                            // The signal that ends this loop may come before the worker listens for it.
                            let status = try await run.end().status
                            if status != 0, status != 128 + SIGTERM { deaths += 1 }
                        } onCancel: {
                            run.signal(SIGTERM)
                        }
                    }
                    return deaths
                }
                do {
                    try await waitUntil("all end", deadline: .seconds(240)) {
                        try await database.number("select count(*) from breakwater.job") == 0
                    }
                } catch {
                    supervisor.cancel()
                    throw error
                }
                supervisor.cancel()
                // The job dies twice among others, then among fewer and fewer suspects, six at most, and at last alone.
                #expect(try await (3...6).contains(supervisor.value))
            }
            #expect(try await database.number("select count(*) from breakwater.result") == 5)
            let letter = try await database.query(
                """
                select reason, attempt, jsonb_array_length(errors), errors -> -1 ->> 'message', errors -> -1 ->> 'name'
                  from breakwater.dead_letter
                """
            )
            #expect(letter.count == 1)
            #expect(try letter[0][0].string() == "poison")
            #expect(try letter[0][1].int() == 0)
            #expect(try (3...6).contains(letter[0][2].int()))
            #expect(try letter[0][3].string().contains("alone"))
            #expect(try letter[0][4].string() == "worker.lost")
        }
    }

    @Test("a worker that was stopped past its lease gives up its runs when it goes on, and changes nothing")
    func stopped() async throws {
        try await withTestDatabase { database in
            try await enqueue("chaos.work", "work", ms: 3000, in: database)
            let notes = FileManager.default.temporaryDirectory.appending(path: "notes-\(UUID().uuidString)")
            defer { try? FileManager.default.removeItem(at: notes) }
            func noted(_ text: String) -> Bool {
                (try? String(contentsOf: notes, encoding: .utf8))?.contains(text) ?? false
            }
            let environment = ["CHAOS_NOTES": notes.path(), "CHAOS_WORKER": "first"]
            let log = try await database.running(Self.file, program: WorkerBinary.chaos, environment: environment) {
                first in
                try await waitUntil("it runs") { noted("start") }
                first.signal(SIGSTOP)
                let start = try await database.number("select id from breakwater.worker")
                try await database.running(
                    Self.file,
                    program: WorkerBinary.chaos,
                    environment: ["CHAOS_NOTES": notes.path(), "CHAOS_WORKER": "second"]
                ) { _ in
                    try await waitUntil("the second has the job") { noted("\"second\"") }
                    first.signal(SIGCONT)
                    try await waitUntil("the first has lost it") {
                        first.errors.contains("registering anew")
                    }
                    try await waitUntil("the job ends") {
                        try await database.number("select count(*) from breakwater.job") == 0
                    }
                }
                #expect(
                    try await database.number("select count(*) from breakwater.lost_worker where worker = \(start)")
                        == 1
                )
                // The worker did not die, and reports that.
                #expect(try await database.number("select count(*) from breakwater.lost_worker where survived") == 1)
            }
            #expect(log.status == 0)
            #expect(try await database.number("select count(*) from breakwater.result") == 1)
            #expect(try await database.number("select count(*) from breakwater.dead_letter") == 0)
            // Both runs were the first attempt, so losing the worker spent none.
            #expect(!noted("\"attempt\":2"))
        }
    }
}
