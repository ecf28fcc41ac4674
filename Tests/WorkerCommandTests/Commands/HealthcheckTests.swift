import BreakwaterTesting
import Foundation
import Testing

@testable import WorkerCommand

@Suite("worker healthcheck", .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)"))
struct HealthcheckTests {
    @Test("asks a running worker", .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"))
    func running() async throws {
        try await withTestDatabase { database in
            // The system chooses the port, and the log names it.
            let file = "{ metrics: \"127.0.0.1:0\", handlers: { k: { exec: { command: [cat] } } } }"
            try await database.running(file) { run in
                var address = ""
                try await waitUntil("it serves") {
                    address = run.errors.firstMatch(of: /"address":"([0-9.:]+)"/).map { String($0.1) } ?? ""
                    return !address.isEmpty
                }
                let alive = try await WorkerBinary.run(["healthcheck", "--address", address])
                #expect(alive.status == 0 && alive.output == "ok\n", "\(alive.errors)")
                try await waitUntil("it is ready") {
                    let environment = ["BREAKWATER_METRICS": address]
                    return try await WorkerBinary.run(["healthcheck", "--ready"], environment: environment).status == 0
                }
            }
        }
    }

    @Test("says that no server answers, and how an address looks")
    func nobody() async throws {
        let silent = try await WorkerBinary.run(["healthcheck", "--address", "127.0.0.1:1"])
        #expect(silent.status == 69)
        #expect(silent.errors.contains("nobody answers at http://127.0.0.1:1/livez"))
        let wrong = try await WorkerBinary.run(["healthcheck", "--address", "here"])
        #expect(wrong.status == 64)
        #expect(wrong.errors.contains("'here' is not allowed; give an address with a port"))
    }

    @Test(
        "a port that is taken ends the worker with a message",
        .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)")
    )
    func taken() async throws {
        try await withTestDatabase { database in
            let file = "{ metrics: \"127.0.0.1:0\", handlers: { k: { exec: { command: [cat] } } } }"
            try await database.running(file) { run in
                var address = ""
                try await waitUntil("it serves") {
                    address = run.errors.firstMatch(of: /"address":"([0-9.:]+)"/).map { String($0.1) } ?? ""
                    return !address.isEmpty
                }
                try await withFile("handlers: { k: { exec: { command: [cat] } } }") { path in
                    let ending = try await WorkerBinary.run(
                        ["run", "--config", path, "--metrics", address, "--database", database.url]
                    )
                    #expect(ending.status == 78)
                    #expect(ending.errors.contains("cannot listen on \(address): address already in use"))
                }
            }
        }
    }
}
