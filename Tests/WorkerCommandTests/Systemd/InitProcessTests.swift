import BreakwaterTesting
import Foundation
import Glibc
import TestPrograms
import Testing

@testable import WorkerCommand

/// Whether this machine lets this user create a PID namespace.
private let mayUnshare: Bool = {
    let trial = Process()
    trial.executableURL = URL(filePath: "/usr/bin/unshare")
    trial.arguments = ["--pid", "--fork", "--mount-proc", "true"]
    trial.standardError = FileHandle.nullDevice
    return (try? trial.run()).map { trial.waitUntilExit() } != nil && trial.terminationStatus == 0
}()

/// `worker` as process 1, in a PID namespace of its own.
@Suite("As process 1", .enabled(if: WorkerBinary.isBuilt && mayUnshare, "no PID namespace may be made here"))
struct InitProcessTests {
    /// The children of a process, with their states.
    private func children(of parent: Int32) -> [(pid: Int32, state: String)] {
        let numbers = (try? FileManager.default.contentsOfDirectory(atPath: "/proc"))?.compactMap { Int32($0) } ?? []
        return numbers.compactMap { number in
            guard let line = try? String(contentsOfFile: "/proc/\(number)/stat", encoding: .utf8) else { return nil }
            // The fields follow the program's name, which may hold any character.
            let fields = line.split(separator: ")").last?.split(separator: " ") ?? []
            guard fields.count > 1, fields[1] == "\(parent)" else { return nil }
            return (number, String(fields[0]))
        }
    }

    @Test(
        "it leaves no zombies of programs that jobs left behind, passes SIGTERM on, and ends with its status",
        .enabled(if: TestDatabase.isAvailable)
    )
    func reaps() async throws {
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind) select 'a' from generate_series(1, 20)")
            // Each job leaves a grandchild in a session of its own, which ends soon.
            let command = "[/bin/sh, -c, 'setsid -f sleep 0.2']"
            try await withFile("handlers: { a: { exec: { command: \(command) } } }") { path in
                let unshare = try Child(
                    "/usr/bin/unshare",
                    [
                        "--pid", "--fork", "--mount-proc", "--kill-child=KILL", WorkerBinary.path.path(), "run",
                        "--config",
                        path, "--database", database.url.replacing("postgres@", with: "postgres:s3cret@"),
                    ],
                    output: .null
                )
                try await waitUntil("all jobs end") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
                let first = try #require(children(of: unshare.processIdentifier).first?.pid)
                try await waitUntil("nothing but the worker is left, and no zombie") {
                    let left = children(of: first)
                    return left.count == 1 && left[0].state != "Z"
                }
                // Both processes have the database's URL among their arguments, with the password masked.
                for process in [first] + children(of: first).map(\.pid) {
                    let arguments = try Data(contentsOf: URL(filePath: "/proc/\(process)/cmdline"))
                    let text = String(decoding: arguments, as: UTF8.self)
                    #expect(text.contains("****") && !text.contains("s3cret"), "\(text)")
                }
                kill(first, SIGTERM)
                #expect(await unshare.end() == 0)
                #expect(try await database.number("select count(*) from breakwater.worker") == 0)
            }
        }
    }

    @Test("its status is that of the command, or that of the signal that ended it")
    func status() async throws {
        let wrong = try Child(
            "/usr/bin/unshare",
            ["--pid", "--fork", "--mount-proc", WorkerBinary.path.path(), "status", "--such"],
            output: .null,
            errors: .null
        )
        #expect(await wrong.end() == 64)
    }
}
