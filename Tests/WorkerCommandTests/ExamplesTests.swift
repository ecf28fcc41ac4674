import BreakwaterTesting
import Foundation
import Libpq
import TestPrograms
import Testing

/// Runs the programs and configurations of `Examples/` against a real server, as their READMEs do.
@Suite(
    "The examples",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct ExamplesTests {
    private static let folder = DocumentationPage.repository.appending(path: "Examples")

    private static func path(_ file: String) -> String { folder.appending(path: file).path() }

    private static func text(_ file: String) throws -> String {
        try String(contentsOf: folder.appending(path: file), encoding: .utf8)
    }

    /// A program that uses a driver for Postgres.
    struct Outbox: Sendable, CustomTestStringConvertible {
        var language: String
        /// The command, without the arguments of the program.
        var command: [String]
        /// A command that succeeds if the driver is installed.
        var probe: [String]

        var testDescription: String { language }

        static let all = [
            Outbox(
                language: "Python",
                command: ["python3", "-B", path("outbox-python/outbox.py")],
                probe: ["python3", "-c", "import psycopg"]
            ),
            Outbox(
                language: "Node.js",
                command: ["node", path("outbox-node/outbox.js")],
                probe: ["node", "-e", "require('pg')"]
            ),
            Outbox(
                language: "Ruby",
                command: ["ruby", path("outbox-ruby/outbox.rb")],
                probe: ["ruby", "-e", "require 'pg'"]
            ),
        ]

        func run(_ arguments: [String], database: String) async throws -> WorkerBinary.Ending {
            try await ExamplesTests.run(command + arguments, environment: ["DATABASE_URL": database])
        }
    }

    /// Runs a program that `PATH` names.
    private static func run(_ command: [String], environment: [String: String]) async throws -> WorkerBinary.Ending {
        try await start(command, environment: environment).end()
    }

    private static func start(_ command: [String], environment: [String: String]) throws -> WorkerBinary.Run {
        // scripts/test sets it if the driver of Node.js is in a folder of its own.
        let modules = ProcessInfo.processInfo.environment["NODE_PATH"].map { ["NODE_PATH": $0] } ?? [:]
        return try WorkerBinary.Run(
            command,
            program: URL(filePath: "/usr/bin/env"),
            environment: environment.merging(modules) { $1 }
        )
    }

    @Test("enqueue a receipt with a purchase, or neither; and a worker sends it", arguments: Outbox.all)
    func outbox(_ outbox: Outbox) async throws {
        guard try await Self.run(outbox.probe, environment: [:]).status == 0 else {
            try Test.cancel("there is no driver for \(outbox.language): scripts/test installs it")
        }
        try await withTestDatabase { database in
            try await database.connection.script(try Self.text("shop.sql"))
            try await database.withRole("breakwater_enqueue") { url in
                let role = try #require(URLComponents(string: url)?.user)
                try await database.connection.script(
                    "grant usage on schema shop to \(role); grant insert on shop.purchase to \(role)"
                )
                let first = try await outbox.run(["503", "42.00"], database: url)
                #expect(first.status == 0, "\(first.errors)")
                let id = try await database.number("select id from breakwater.job where kind = 'receipt.send'")
                #expect(first.output == "job \(id)\n")
                // The purchase exists already. Then the total is refused by the table.
                for arguments in [["503", "42.00"], ["504", "-1"]] {
                    #expect(try await outbox.run(arguments, database: url).status != 0)
                }
                // If the job cannot be enqueued, there is no purchase either.
                try await database.connection.script("revoke breakwater_enqueue from \(role)")
                #expect(try await outbox.run(["505", "1"], database: url).status != 0)
            }
            #expect(try await database.numbers("select id from shop.purchase") == [503])
            #expect(try await database.number("select count(*) from breakwater.job") == 1)

            let ending = try await database.running(try Self.text("shop.yaml")) { _ in
                try await waitUntil("the receipt was sent") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
            }
            #expect(ending.messages.contains(#"a receipt for {"purchase": 503}"#), "\(ending.errors)")
        }
    }

    @Test("set schedules, whose jobs come by the clock and by hand")
    func schedules() async throws {
        try await withTestDatabase { database in
            try await database.running(try Self.text("schedules/worker.yaml")) { _ in
                try await waitUntil("the schedules are set") {
                    try await database.number("select count(*) from breakwater.schedule") == 3
                }
                let names = try await database.texts("select name from breakwater.schedule_status order by name")
                #expect(names == ["monthly-report", "nightly-report", "ping"])
                let byHand = try await database.worker("schedules", "run", "nightly-report")
                #expect(byHand.status == 0, "\(byHand.errors)")
                try await waitUntil("both kinds have run") {
                    try await database.number("select count(distinct kind) from breakwater.result") == 2
                }
            }
            let report = try await database.text(
                "select result #>> '{}' from breakwater.result where kind = 'report.build'"
            )
            #expect(report.hasPrefix("from null to 20"))
        }
    }

    @Test("deliver signed webhooks to the endpoint that an event names")
    func webhooks() async throws {
        try await withTestDatabase { database in
            let secret = "whsec_" + Data((0..<24).map { _ in UInt8.random(in: 0...255) }).base64EncodedString()
            let receiver = try Self.start(
                ["python3", "-B", Self.path("webhooks/receiver.py"), "0", secret],
                environment: [:]
            )
            try await waitUntil("the receiver listens") { receiver.errors.contains("/in") }
            let address = try #require(receiver.errors.firstMatch(of: /http:\S+/))
            let sql = try Self.text("webhooks/endpoints.sql")
                .replacing(":'url'", with: "'\(address.0)'").replacing(":'secret'", with: "'\(secret)'")
            try await database.running(try Self.text("webhooks/worker.yaml")) { _ in
                try await database.connection.script(sql)
                try await waitUntil("the event arrived") {
                    try await database.number("select count(*) from breakwater.finished") == 1
                }
                #expect(try await database.text("select outcome from breakwater.finished") == "succeeded")
                #expect(receiver.output == "order.paid {\"order\": 7}\n")

                // The receiver refuses what another secret has signed.
                let other = "whsec_" + Data(repeating: 7, count: 24).base64EncodedString()
                let forged = sql.replacing(secret, with: other).replacing("acme", with: "mallory")
                try await database.connection.script(forged)
                try await waitUntil("the forged event was refused") {
                    let errors = try await database.texts(
                        "select errors -> -1 ->> 'name' from breakwater.dead_letter"
                    )
                    return errors == ["http.401"]
                }
                #expect(receiver.output == "order.paid {\"order\": 7}\n")
            }
            receiver.signal(SIGTERM)
            _ = try await receiver.end()
        }
    }

    @Test("serve purchases with Hummingbird, enqueue their receipts with them, and send those")
    func server() async throws {
        try await withTestDatabase { database in
            try await database.connection.script(try Self.text("shop.sql"))
            let server = try WorkerBinary.Run(
                [],
                program: WorkerBinary.server,
                environment: ["DATABASE_URL": database.url, "PORT": "0"]
            )
            let listening = /listening on 127\.0\.0\.1:([0-9]+)/
            try await waitUntil("the server listens") { (server.output + server.errors).contains(listening) }
            let port = try #require((server.output + server.errors).firstMatch(of: listening)?.1)
            // The answer's text, whatever its status.
            let request = """
                import sys, urllib.error, urllib.request
                try:
                    body = sys.argv[2].encode() if len(sys.argv) > 2 else None
                    print(urllib.request.urlopen(sys.argv[1], body).read().decode())
                except urllib.error.HTTPError as error:
                    print(error.code)
                """
            let ask = { (arguments: String...) in
                try await Self.run(["python3", "-c", request] + arguments, environment: [:]).output
            }
            let purchases = "http://127.0.0.1:\(port)/purchases"
            let purchase = #"{"id": 7, "total": 12.5}"#
            let accepted = try await ask(purchases, purchase)
            #expect(accepted.contains(/"job":[0-9]+/), "\(accepted)")
            try await waitUntil("the receipt is sent") { (server.output + server.errors).contains("receipt sent") }
            try await waitUntil("the job is gone") {
                try await database.number("select count(*) from breakwater.job") == 0
            }
            // The same purchase again is refused, and enqueues nothing.
            #expect(try await ask(purchases, purchase) == "500\n")
            #expect(try await database.number("select count(*) from breakwater.job") == 0)
            #expect(try await ask("http://127.0.0.1:\(port)/jobs/1").contains("ended"))
            server.signal(SIGTERM)
            #expect(try await server.end().status == 0)
        }
    }

    @Test("are all listed, and each has a README")
    func readmes() throws {
        let names = try FileManager.default.contentsOfDirectory(
            at: Self.folder,
            includingPropertiesForKeys: [.isDirectoryKey]
        ).filter(\.hasDirectoryPath).map(\.lastPathComponent)
        let listed = try Self.text("README.md").matches(of: /\]\(([a-z-]+)\/README\.md\)/).map { String($0.1) }
        #expect(Set(names).symmetricDifference(listed) == [])
    }
}
