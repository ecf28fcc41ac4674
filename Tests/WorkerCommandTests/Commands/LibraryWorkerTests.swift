import BreakwaterTesting
import Foundation
import Glibc
import Libpq
import TestPrograms
import Testing

/// `worker run` with a shared library.
@Suite(
    "A worker process with a library",
    .enabled(if: TestDatabase.isAvailable && WorkerBinary.isBuilt, "BREAKWATER_TEST_DATABASE or the program is missing")
)
struct LibraryWorkerTests {
    private func file(_ library: String, _ keys: String = "", _ settings: String = "{}") -> String {
        """
        lease: 2s
        poll_interval: 50ms
        shutdown_grace: 1s
        handlers:
          probe:
            library: { path: "\(library)", settings: \(settings) }
            keep_results: 1h
            circuit: off
            \(keys)
        """
    }

    private func enqueue(_ word: String, count: Int = 1, in database: TestDatabase) async throws {
        try await database.query(
            "insert into breakwater.job (kind, payload) select 'probe', to_jsonb($1::text) from generate_series(1, $2)",
            [.text(word), .int4(Int32(count))]
        )
    }

    @Test("runs its jobs, and ends in good order")
    func runs() async throws {
        let library = try await LibraryBuild.build("probe.c")
        try await withTestDatabase { database in
            try await enqueue("nap", count: 200, in: database)
            try await enqueue("discard", in: database)
            let ending = try await database.running(file(library)) { _ in
                try await waitUntil("all jobs have ended") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
            }
            #expect(ending.status == 0)
            #expect(ending.messages.count { $0 == "opened" } == 1)
            #expect(ending.logLines.contains { $0["label"] as? String == "breakwater.handlers" })
            #expect(try await database.number("select count(*) from breakwater.result where result = 'false'") == 200)
            #expect(
                try await database.texts(
                    "select reason || ' ' || (errors -> -1 ->> 'name') from breakwater.dead_letter"
                )
                    == ["discarded probe.bad"]
            )
        }
    }

    @Test("ends although a call goes on, and gives the job back")
    func stuck() async throws {
        let library = try await LibraryBuild.build("probe.c")
        try await withTestDatabase { database in
            try await enqueue("ignore", in: database)
            let ending = try await database.running(file(library)) { _ in
                try await waitUntil("it runs") {
                    try await database.number("select count(*) from breakwater.running_job") == 1
                }
            }
            // The library aborts if its destructors run while a call is in it.
            #expect(ending.status == 0)
            #expect(ending.messages.contains { $0.contains("\(library) is not closed, because 1 of") })
            #expect(try await database.number("select attempt from breakwater.job") == 0)
            #expect(try await database.number("select crashes from breakwater.job") == 0)
            #expect(try await database.number("select count(*) from breakwater.running_job") == 0)
        }
    }

    @Test("is lost when the library crashes; another worker runs the job, and no attempt is spent")
    func crash() async throws {
        let library = try await LibraryBuild.build("probe.c")
        let history = "history: { keep: 1h }"
        try await withTestDatabase { database in
            let marker = FileManager.default.temporaryDirectory.appending(path: "crashed-\(UUID().uuidString)").path
            defer { try? FileManager.default.removeItem(atPath: marker) }
            try await enqueue("crash once", in: database)
            try await withFile(file(library, history, "{ marker: \"\(marker)\" }")) { path in
                let first = try WorkerBinary.Run(
                    ["run", "--config", path, "--database", database.url],
                    environment: ["SWIFT_BACKTRACE": "enable=no"]
                )
                #expect(try await first.end().status == 128 + SIGSEGV)
                #expect(try await database.number("select count(*) from breakwater.job") == 1)
            }
            try await database.running(file(library, history, "{ marker: \"\(marker)\" }")) { _ in
                try await waitUntil("the other worker has run it") {
                    try await database.number("select count(*) from breakwater.result") == 1
                }
            }
            #expect(try await database.number("select count(*) from breakwater.lost_worker") == 1)
            #expect(try await database.number("select attempt from breakwater.finished") == 1)
        }
    }

    @Test("is lost when the library lets an exception out")
    func exception() async throws {
        let library = try await LibraryBuild.build("throwing.cpp")
        try await withTestDatabase { database in
            try await enqueue("any", in: database)
            try await withFile(file(library)) { path in
                let run = try WorkerBinary.Run(
                    ["run", "--config", path, "--database", database.url],
                    environment: ["SWIFT_BACKTRACE": "enable=no"]
                )
                let ending = try await run.end()
                #expect(ending.status == 128 + SIGABRT)
                #expect(ending.errors.contains("not caught"))
            }
        }
    }

    @Test("is started again until the job that crashes it is poison; the jobs beside it end, and are not charged")
    func poison() async throws {
        let library = try await LibraryBuild.build("probe.c")
        try await withTestDatabase { database in
            try await enqueue("crash", in: database)
            try await enqueue("nap", count: 20, in: database)
            try await withFile(file(library)) { path in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    // This starts the worker again whenever it dies, as a supervisor would.
                    group.addTask {
                        while !Task.isCancelled {
                            let run = try WorkerBinary.Run(
                                ["run", "--config", path, "--database", database.url],
                                environment: ["SWIFT_BACKTRACE": "enable=no"]
                            )
                            try await withTaskCancellationHandler {
                                _ = try await run.end()
                            } onCancel: {
                                run.signal(SIGTERM)
                            }
                        }
                    }
                    try await waitUntil("all end", deadline: .seconds(240)) {
                        try await database.number("select count(*) from breakwater.job") == 0
                    }
                    group.cancelAll()
                    try await group.waitForAll()
                }
            }
            #expect(try await database.number("select count(*) from breakwater.result") == 20)
            #expect(
                try await database.texts(
                    "select reason || ' ' || attempt || ' ' || (payload #>> '{}') from breakwater.dead_letter"
                ) == ["poison 0 crash"]
            )
        }
    }
}
