import BreakwaterTesting
import Foundation
import Libpq
import Logging
import Synchronization
import TestPrograms
import Testing

@testable import BreakwaterHTTP

/// A secret that the worker is given. Its text occurs nowhere else.
private struct Canary: Sendable {
    var name: String
    let text = "canary\(UInt64.random(in: .min ... .max))"
}

/// Everything that was seen of a worker from outside while it ran, by the place where it was seen.
private final class Sightings: Sendable {
    private let texts = Mutex<[String: Set<String>]>([:])

    func add(_ place: String, _ text: String) {
        texts.withLock { _ = $0[place, default: []].insert(text) }
    }

    func count(at place: String) -> Int { texts.withLock { $0[place]?.count ?? 0 } }

    /// The places where a text was seen, with its surroundings.
    func places(of text: String) -> [String] {
        texts.withLock { texts in
            texts.flatMap { place, seen in
                seen.filter { $0.contains(text) }.map { "\(place): \($0.prefix(500))" }
            }
        }
    }
}

@Suite(
    "Secrets of a running worker",
    .enabled(if: TestDatabase.isAvailable, "BREAKWATER_TEST_DATABASE is not set"),
    .enabled(if: WorkerProgram.isBuilt)
)
struct CanaryTests {
    private let payload = Canary(name: "payload")
    private let number = Canary(name: "number in the payload")
    private let query = Canary(name: "query of the URL")
    private let header = Canary(name: "header")
    private let password = Canary(name: "password")
    private let variable = Canary(name: "variable of a program")

    private var everywhere: [Canary] { [query, header, password, variable] }

    @Test("are in no log line, notification, process title, session or status, and only in the tables that hold them")
    func silence() async throws {
        let sightings = Sightings()
        // Like many servers, this one echoes the request in its errors.
        try await withServer({ request in
            if request.line.contains("/v1/traces") {
                sightings.add("trace", String(decoding: request.body, as: UTF8.self))
                return .answer(200)
            }
            let headers = request.headers.map { "\($0): \($1)" }.joined(separator: "\n")
            let echo = "\(request.line)\n\(headers)\n\(String(decoding: request.body, as: UTF8.self))"
            return .answer(request.line.contains("down") ? 503 : 400, body: echo)
        }) { server in
            try await withTestDatabase { database in
                let role = "canary_\(UInt32.random(in: 0 ... .max))"
                try await database.connection.script(
                    "create role \(role) login password '\(password.text)'; grant breakwater_worker, breakwater_admin to \(role)"
                )
                var parts = try #require(URLComponents(string: database.url))
                (parts.user, parts.password) = (role, password.text)
                let url = try #require(parts.string)
                try await watch(database, url: url, port: server.port, sightings)
                try await database.connection.script("drop owned by \(role); drop role \(role)")
            }
        }
        for place in ["log", "title", "session", "notification", "status", "metrics", "trace", "table worker"] {
            #expect(sightings.count(at: place) > 0, "nothing was seen at: \(place)")
        }
        for canary in everywhere {
            #expect(sightings.places(of: canary.text) == [], "the \(canary.name) was seen")
        }
        // The payload is only in these tables.
        let belongs = ["table job:", "table dead_letter:", "table result:"]
        for (name, text) in [(payload.name, payload.text), (number.name, digits)] {
            let places = sightings.places(of: text).filter { place in !belongs.contains { place.hasPrefix($0) } }
            #expect(places == [], "the \(name) was seen")
        }
    }

    private func watch(_ database: TestDatabase, url: String, port: UInt16, _ sightings: Sightings) async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "canary-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let file = directory.appending(path: "worker.yaml")
        let (held, metricsPort) = try TestServer.listen()
        close(held)
        try """
        log_level: trace
        log_format: json
        poll_interval: 50ms
        metrics: "127.0.0.1:\(metricsPort)"
        traces: "http://127.0.0.1:\(port)"
        handlers:
          hook:
            http:
              url: "http://127.0.0.1:\(port)/hook?token=\(query.text)&b=1"
              headers: { Authorization: "Bearer \(header.text)", X-Api-Key: "\(header.text)" }
            circuit: off
          down:
            http: { url: "http://127.0.0.1:\(port)/down?token=\(query.text)", headers: { Authorization: "\(header.text)" } }
            retry: { max_attempts: 3, base: 10ms, cap: 20ms }
            circuit: { consecutive_failures: 2, open_for: 200ms, suspend_workers: false }
          unreachable:
            http: { url: "http://127.0.0.1:1/x?token=\(query.text)" }
            retry: { max_attempts: 2, base: 10ms, cap: 20ms }
            circuit: off
          program:
            exec: { command: [sh, -c, 'printf "%s" "$SECRET" | wc -c; exit 65'], environment: { SECRET: "\(variable.text)" } }
            circuit: off
          keeps:
            exec: { command: [cat] }
            keep_results: 1h
        """.write(to: file, atomically: true, encoding: .utf8)

        let listener = try await database.connectDirectly()
        // These are all channels on which the schema's functions notify.
        let channels = try await database.texts(
            """
            select distinct m[1] from pg_proc p, regexp_matches(p.prosrc, 'pg_notify\\(''([^'']+)''', 'g') m
             where p.pronamespace = 'breakwater'::regnamespace
            """
        )
        #expect(channels == ["breakwater"])
        for channel in channels { try await listener.listen(channel) }
        let hearing = Task {
            for await notification in listener.notifications { sightings.add("notification", notification.payload) }
        }

        let kinds = ["hook", "down", "unreachable", "program", "keeps"]
        let values =
            #"{"card":"\#(payload.text)","n":[{"deep":"x \#(payload.text) \"quoted\"\n"}],"number":\#(digits)}"#
        let log = directory.appending(path: "log")
        let worker = try start(["run", "--config", file.path(), "--database", url], log: log)
        let watching = Task { try await watchOutside(database, worker.processIdentifier, sightings) }
        for kind in kinds {
            try await database.query(
                "insert into breakwater.job (kind, payload) select $1, $2 from generate_series(1, 3)",
                [.text(kind), .jsonb(values)]
            )
        }
        let left = "select count(*) from breakwater.job where kind <> 'down'"
        try await waitUntil("the jobs have ended") { try await database.number(left) == 0 }
        try await waitUntil("the circuit has opened") {
            try await database.number("select count(*) from breakwater.circuit_transition where kind = 'down'") > 0
        }
        for command in [
            ["status"], ["status", "--json"], ["circuits"], ["circuits", "--json"], ["circuits", "history", "down"],
            ["run", "--check", "--config", file.path(), "--database", url],
        ] {
            let output = directory.appending(path: "output")
            let process = try start(command, log: output, environment: ["DATABASE_URL": url])
            try await waitUntil("\(command) has ended") { !process.isRunning }
            sightings.add("status", try String(contentsOf: output, encoding: .utf8))
        }
        try await lookIntoTables(database, sightings)
        for page in ["metrics", "readyz", "livez"] {
            let url = try #require(URL(string: "http://127.0.0.1:\(metricsPort)/\(page)"))
            sightings.add("metrics", try String(contentsOf: url, encoding: .utf8))
        }
        worker.signal(SIGTERM)
        try await waitUntil("the worker has ended") { !worker.isRunning }
        watching.cancel()
        hearing.cancel()
        _ = try? await watching.value
        await listener.close()
        for line in try String(contentsOf: log, encoding: .utf8).split(separator: "\n") {
            sightings.add("log", "\(line)")
        }
    }

    /// The digits of a canary, for a number in a payload.
    private var digits: String { String(number.text.drop { !$0.isNumber }) }

    private func start(_ arguments: [String], log: URL, environment: [String: String] = [:]) throws -> Child {
        _ = FileManager.default.createFile(atPath: log.path(), contents: nil)
        let output = try FileHandle(forWritingTo: log)
        return try Child(
            WorkerProgram.path.path(),
            arguments,
            environment: environment.merging(["PATH": "/usr/bin:/bin"]) { given, _ in given },
            output: .descriptor(output.fileDescriptor),
            errors: .descriptor(output.fileDescriptor)
        )
    }

    /// Records everything that other accounts of the machine and of the server can see while the worker runs.
    private func watchOutside(_ database: TestDatabase, _ worker: Int32, _ sightings: Sightings) async throws {
        let connection = try await database.connect()
        // The worker's arguments are readable until it has overwritten them, so this waits until it has started.
        try await waitUntil("the worker has registered") {
            try await database.number("select count(*) from breakwater.worker") == 1
        }
        while !Task.isCancelled {
            let processes = try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { Int32($0) }
            for process in processes where process == worker || isChild(process, of: worker) {
                let title = FileManager.default.contents(atPath: "/proc/\(process)/cmdline") ?? Data()
                sightings.add("title", String(decoding: title, as: UTF8.self).replacing("\0", with: " "))
            }
            let sessions = try await connection.query(
                "select concat_ws(' ', application_name, query) from pg_stat_activity where datname = current_database()"
            )
            for session in sessions { sightings.add("session", try session[0].string()) }
            try await Task.sleep(for: .milliseconds(10))
        }
        await connection.close()
    }

    private func isChild(_ process: Int32, of parent: Int32) -> Bool {
        let status = FileManager.default.contents(atPath: "/proc/\(process)/status") ?? Data()
        return String(decoding: status, as: UTF8.self).contains("\nPPid:\t\(parent)\n")
    }

    private func lookIntoTables(_ database: TestDatabase, _ sightings: Sightings) async throws {
        let tables = try await database.texts(
            "select c.relname from pg_class c where c.relnamespace = 'breakwater'::regnamespace and c.relkind in ('r', 'v')"
        )
        for table in tables {
            // This view shows the columns of the table of jobs.
            let place = table == "job_status" ? "table job" : "table \(table)"
            for row in try await database.texts("select t::text from breakwater.\(table) t") {
                sightings.add(place, row)
            }
        }
    }
}
