import Foundation
import Testing

@testable import WorkerCommand

/// Makes a configuration file that exists during the body.
func withFile<Value>(_ text: String, _ body: (String) async throws -> Value) async throws -> Value {
    let url = FileManager.default.temporaryDirectory.appending(path: "worker-\(UUID().uuidString).yaml")
    try text.write(to: url, atomically: true, encoding: .utf8)
    defer { try? FileManager.default.removeItem(at: url) }
    return try await body(url.path())
}

@Suite("The program worker", .enabled(if: WorkerBinary.isBuilt, "there is no executable 'worker' beside the tests"))
struct WorkerBinaryTests {
    @Test(
        "has help with an example for each command",
        arguments: [
            [], ["run"], ["migrate"], ["enqueue"], ["status"], ["tail"], ["circuits"], ["circuits", "list"],
            ["circuits", "show"], ["circuits", "history"], ["circuits", "open"], ["circuits", "close"],
            ["circuits", "disable"], ["circuits", "observe"], ["circuits", "reset"], ["circuits", "probe"], ["job"],
            ["cancel"],
            ["run-now"],
            ["set-priority"], ["rename-kind"], ["pause"], ["resume"], ["drain"], ["undrain"], ["healthcheck"],
            ["dead-letters"],
            ["dead-letters", "list"], ["dead-letters", "show"], ["dead-letters", "redrive"], ["dead-letters", "purge"],
        ]
    )
    func help(command: [String]) async throws {
        let ending = try await WorkerBinary.run(command + ["--help"])
        #expect(ending.status == 0)
        #expect(ending.errors == "")
        #expect(ending.output.contains("USAGE: " + (["worker"] + command).joined(separator: " ")))
        #expect(ending.output.contains("  " + (["worker"] + command.prefix(1)).joined(separator: " ")), "no example")
    }

    @Test("tells its version, and the commit from which it was built in a clone")
    func version() async throws {
        let output = try await WorkerBinary.run(["--version"]).output
        #expect(output.hasPrefix(WorkerCommand.version))
        let head = DocumentationPage.repository.appending(path: ".git/HEAD")
        guard FileManager.default.fileExists(atPath: head.path()) else { return }
        let rest = output.dropFirst(WorkerCommand.version.count)
        #expect(rest.wholeMatch(of: /\ \(commit [0-9a-f]{12}\)\n/) != nil, "\(output)")
    }

    @Test(
        "exits with 64 when the arguments are wrong",
        arguments: [["nonsense"], ["run"], ["enqueue"], ["enqueue", "k", "{"], ["status", "extra"]]
    )
    func usage(arguments: [String]) async throws {
        let ending = try await WorkerBinary.run(arguments)
        #expect(ending.status == 64)
        #expect(ending.output == "")
        #expect(!ending.errors.isEmpty)
    }

    @Test(
        "exits with 69 when the database cannot be reached, and says which address it tried",
        arguments: [["status"], ["migrate"], ["enqueue", "k"], ["circuits"], ["dead-letters"]]
    )
    func unreachable(command: [String]) async throws {
        let ending = try await WorkerBinary.run(
            command,
            environment: ["DATABASE_URL": "postgresql://app:hunter2@127.0.0.1:1/nowhere"]
        )
        #expect(ending.status == 69)
        #expect(ending.errors.contains("host=127.0.0.1 port=1 dbname=nowhere user=app"))
        #expect(!ending.errors.contains("hunter2"))
    }

    @Test("exits with 69 when a worker cannot reach its database")
    func workerUnreachable() async throws {
        try await withFile("handlers: { a: { exec: { command: [cat] } } }") { path in
            let ending = try await WorkerBinary.run([
                "run", "--config", path, "--database", "postgresql://127.0.0.1:1/nowhere",
            ])
            #expect(ending.status == 69, "\(ending.errors)")
        }
    }

    @Test("exits with 78 and lists every problem of the configuration, before it connects to the database")
    func configuration() async throws {
        try await withFile("concurrency: 0\nquques: []\nhandlers: { a: {} }") { path in
            let ending = try await WorkerBinary.run(
                ["run", "--config", path],
                environment: ["DATABASE_URL": "postgresql://127.0.0.1:1/nowhere"]
            )
            #expect(ending.status == 78)
            #expect(ending.errors.contains("the configuration has 3 problems; nothing was started:"))
            #expect(ending.errors.contains("\(path):2: quques: this key is not known; did you mean 'queues'?"))
        }
    }

    @Test("exits with 78 when the file does not exist")
    func noFile() async throws {
        let ending = try await WorkerBinary.run(["run", "--config", "/no/such/worker.yaml", "--check"])
        #expect(ending.status == 78)
        #expect(ending.errors.contains("'/no/such/worker.yaml': there is no such file"))
    }

    @Test("prints the effective configuration with --check, and needs no database for it")
    func check() async throws {
        try await withFile("handlers: { a: { exec: { command: [cat] } } }") { path in
            let ending = try await WorkerBinary.run(
                ["run", "--config", path, "--check", "--lease", "9s"],
                environment: ["DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x", "BREAKWATER_CONCURRENCY": "7"]
            )
            #expect(ending.status == 0, "\(ending.errors)")
            #expect(ending.output.contains("concurrency: 7  # environment, BREAKWATER_CONCURRENCY\n"))
            #expect(ending.output.contains("lease: 9s  # flag, --lease\n"))
            #expect(
                ending.output.contains("database: \"postgresql://u:***@127.0.0.1:1/x\"  # environment, DATABASE_URL\n")
            )
        }
    }
}
