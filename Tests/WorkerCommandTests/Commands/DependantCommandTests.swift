import BreakwaterTesting
import Foundation
import TestPrograms
import Testing

@testable import WorkerCommand

@Suite(
    "Jobs that wait, from the command line,",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct DependantCommandTests {
    private func text(_ database: TestDatabase, _ arguments: String...) async throws -> String {
        let ending = try await database.worker(arguments)
        #expect(ending.status == 0, "\(ending.errors)")
        return ending.output.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    @Test("are enqueued, drawn as a tree, and explained")
    func after() async throws {
        try await withTestDatabase { database in
            let first = try await text(database, "enqueue", "page.render")
            let second = try await text(database, "enqueue", "page.render")
            let last = try await text(
                database,
                "enqueue",
                "report.bind",
                "--after",
                first,
                "--after",
                second,
                "--on-dead",
                "cancel"
            )
            let shown = try await text(database, "job", last)
            #expect(shown.contains("waits for 2 of 2 jobs: \(first), \(second)"), "\(shown)")
            #expect(shown.contains("WAITS FOR\n└─ \(first) page.render: waiting\n└─ \(second)"), "\(shown)")
            let of = try await text(database, "job", first)
            #expect(of.contains("WAITED FOR BY\n└─ \(last) report.bind"), "\(of)")
            let json = try await text(database, "job", last, "--json")
            #expect(json.contains("\"relations\""), "\(json)")
            _ = try await text(database, "cancel", first)
            #expect(try await database.text("select on_dead from breakwater.dependant") == "cancel")
        }
    }

    @Test("belong to batches, which are listed, and closed once")
    func batches() async throws {
        try await withTestDatabase { database in
            #expect(try await text(database, "batches").contains("There are no batches"))
            let batch = try await text(database, "batches", "create", "report.send", "{\"month\": 1}", "--open")
            _ = try await text(database, "enqueue", "page.render", "--batch", batch)
            let list = try await text(database, "batches")
            #expect(list.contains(#/report\.send +open +1 +1 +0 +0/#), "\(list)")
            #expect(try await text(database, "batches", "close", batch).contains("is closed"))
            let again = try await database.worker("batches", "close", batch)
            #expect(again.status == 1 && again.errors.contains("there is no open batch \(batch)"), "\(again.errors)")
            #expect(try await text(database, "batches", "--json").contains("\"open\": false"))
        }
    }

    @Test(
        "are refused with clear words",
        arguments: [
            (["enqueue", "k", "--on-dead", "hold"], 64, "give --after too"),
            (["enqueue", "k", "--after", "99"], 64, "there was never a job 99"),
            (["enqueue", "k", "--after", "1", "--on-dead", "die"], 64, "on-dead"),
            (["enqueue", "k", "--batch", "99"], 64, "there is no batch 99"),
            (["enqueue", "k", "--file", "f", "--after", "1"], 64, "are for one job"),
            (["batches", "create", "k", "[1]"], 64, "is a JSON array, not an object"),
            (["batches", "close", "x"], 64, "x"),
        ]
    )
    func refused(arguments: [String], status: Int32, message: String) async throws {
        try await withTestDatabase { database in
            let ending = try await database.worker(arguments)
            #expect(ending.status == status, "\(ending.errors)")
            #expect(ending.errors.contains(message), "\(ending.errors)")
        }
    }
}
