import BreakwaterTesting
import Foundation
import Glibc
import TestPrograms
import Testing

@testable import WorkerCommand

/// Commands whose streams are full, closed, or not read.
@Suite("Standard streams", .enabled(if: WorkerBinary.isBuilt, "the worker is not built"))
struct StandardStreamTests {
    /// Runs the worker from a shell that redirects its streams.
    private func shell(_ arguments: String, environment: [String: String] = [:]) async throws -> WorkerBinary.Ending {
        try await WorkerBinary.Run(
            ["-c", "'\(WorkerBinary.path.path())' \(arguments)"],
            program: URL(filePath: "/bin/sh"),
            environment: environment
        ).end()
    }

    @Test(
        "an answer that cannot be written is reported, with a status of its own",
        arguments: [
            ("--help > /dev/full", "No space left on device"), ("--version > /dev/full", "No space left on device"),
            ("--version >&-", "Bad file descriptor"), ("status --help 0<&- >&-", "Bad file descriptor"),
        ]
    )
    func lostAnswer(arguments: String, reason: String) async throws {
        let ending = try await shell(arguments)
        #expect(ending.status == 74)
        #expect(ending.errors.contains("standard output could not be written: \(reason)"), "\(ending.errors)")
        #expect(ending.output == "")
    }

    @Test("a reader who closes the pipe early causes no error")
    func readerLeaves() async throws {
        let ending = try await shell("--help | head -c 1; exit ${PIPESTATUS:-0}")
        #expect(ending.errors == "")
        #expect(ending.output.count == 1)
    }

    @Test("a command whose answer is lost has still done its work", .enabled(if: TestDatabase.isAvailable))
    func doneAllTheSame() async throws {
        try await withTestDatabase { database in
            for answer in ["> /dev/full", "--json > /dev/full", ">&-"] {
                let ending = try await shell("enqueue k '{}' \(answer)", environment: ["DATABASE_URL": database.url])
                #expect(ending.status == 74, "\(ending.errors)")
            }
            #expect(try await database.number("select count(*) from breakwater.job") == 3)
        }
    }

    @Test("a failure is reported as such even if its answer is lost as well")
    func failure() async throws {
        #expect(try await shell("status --such > /dev/full").status == 64)
    }

    @Test("a log that is not read holds nothing up", .enabled(if: TestDatabase.isAvailable))
    func unreadLog() async throws {
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind) select 'a' from generate_series(1, 300)")
            var ends: [Int32] = [-1, -1]
            #expect(pipe(&ends) == 0)
            defer { for end in ends { close(end) } }
            // The pipe is full from the beginning.
            _ = fcntl(ends[1], F_SETFL, O_NONBLOCK)
            while write(ends[1], "x", 1) == 1 {}
            _ = fcntl(ends[1], F_SETFL, 0)
            try await withFile("{ log_level: trace, handlers: { a: { exec: { command: [/bin/true] } } } }") { path in
                let worker = try Child(
                    WorkerBinary.path.path(),
                    ["run", "--config", path, "--database", database.url],
                    output: .null,
                    errors: .descriptor(ends[1])
                )
                try await waitUntil("all jobs end") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
                let beat = try await database.text("select beat_at::text from breakwater.worker")
                try await waitUntil("it goes on beating") {
                    try await database.text("select beat_at::text from breakwater.worker") != beat
                }
                worker.signal(SIGTERM)
                #expect(await worker.end() == 0)
                #expect(try await database.number("select count(*) from breakwater.worker") == 0)
            }
        }
    }
}
