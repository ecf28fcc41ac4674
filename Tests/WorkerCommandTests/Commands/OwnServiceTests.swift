import BreakwaterTesting
import Foundation
import Testing

@testable import WorkerCommand

@Suite(
    "A service of the executable's own",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct OwnServiceTests {
    @Test("runs beside the worker, and shuts down after the worker has ended")
    func order() async throws {
        try await withTestDatabase { database in
            let outbox = FileManager.default.temporaryDirectory.appending(path: "outbox-\(UUID().uuidString)")
            try FileManager.default.createDirectory(at: outbox, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(at: outbox) }
            let ending = try await database.running(
                "poll_interval: 50ms\nhandlers: { email.send: { swift: {} } }",
                program: WorkerBinary.example,
                environment: ["EXAMPLE_OUTBOX": outbox.path()]
            ) { _ in
                try await database.query(
                    """
                    insert into breakwater.job (kind, payload) values ('email.send', '{"to": "a@b.c", "subject": "x"}')
                    """
                )
                try await waitUntil("it is written") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
            }
            #expect(ending.status == 0)
            let (stopped, report) = (ending.errors.range(of: "worker stopped"), ending.errors.range(of: "\"emails\":1"))
            let (end, last) = (try #require(stopped, "\(ending.errors)"), try #require(report, "\(ending.errors)"))
            #expect(end.upperBound < last.lowerBound)
        }
    }

    @Test("that fails ends the worker in good order, and the process with a status that says so")
    func failure() async throws {
        try await withTestDatabase { database in
            let outbox = FileManager.default.temporaryDirectory.appending(path: "outbox-\(UUID().uuidString)")
            try Data().write(to: outbox)
            defer { try? FileManager.default.removeItem(at: outbox) }
            let ending = try await WorkerBinary.Run(
                ["run"],
                program: WorkerBinary.example,
                environment: ["EXAMPLE_OUTBOX": outbox.path(), "DATABASE_URL": database.url]
            ).end()
            #expect(ending.status == 70)
            #expect(ending.errors.contains("\(outbox.path()) is no directory"), "\(ending.errors)")
            #expect(ending.errors.contains("worker stopped"), "\(ending.errors)")
            #expect(try await database.number("select count(*) from breakwater.worker") == 0)
        }
    }
}
