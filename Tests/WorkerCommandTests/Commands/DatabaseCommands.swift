import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import WorkerCommand

extension TestDatabase {
    /// Runs the program on this database.
    func worker(_ arguments: String..., input: String? = nil) async throws -> WorkerBinary.Ending {
        try await worker(arguments, input: input)
    }

    func worker(_ arguments: [String], input: String? = nil) async throws -> WorkerBinary.Ending {
        try await WorkerBinary.run(arguments, environment: ["DATABASE_URL": url], input: input)
    }

    /// Runs `worker run` on this database during the body, then drains it, and returns how it ended.
    ///
    /// - Parameters:
    ///   - program: The executable. Defaults to `worker`.
    ///   - file: The configuration file's text.
    ///   - limits: A program with its arguments that sets limits and then becomes the executable. Defaults to none.
    ///   - environment: Variables for the executable. Defaults to none.
    ///   - body: It runs beside the worker.
    @discardableResult
    func running(
        _ file: String,
        program: URL = WorkerBinary.path,
        limits: [String] = [],
        environment: [String: String] = [:],
        _ body: (WorkerBinary.Run) async throws -> Void
    ) async throws -> WorkerBinary.Ending {
        try await withFile(file) { path in
            let command = limits + [program.path(), "run", "--config", path, "--database", url]
            let run = try WorkerBinary.Run(
                Array(command.dropFirst()),
                program: URL(filePath: command[0]),
                environment: environment
            )
            do {
                try await body(run)
            } catch {
                // This reads the state while the worker still runs, because it is gone later.
                let left = try await texts(
                    """
                    (select format('job %s, %s, attempt %s, %s: %s', s.id, s.kind, s.attempt, s.state, s.why)
                       from breakwater.job_status s order by s.id limit 20)
                    union all
                    (select format('circuit %s %s is %s: %s', c.kind, c.key, c.state, c.reason)
                       from breakwater.circuit c limit 20)
                    """
                )
                run.signal(SIGKILL)
                let log = try await run.end().errors
                Issue.record("what was there:\n\(left.joined(separator: "\n"))\nthe worker's log:\n\(log)")
                throw error
            }
            run.signal(SIGTERM)
            return try await run.end()
        }
    }

    /// Inserts dead letters, as settling would.
    func bury(_ ids: ClosedRange<Int>, kind: String, reason: String = "exhausted") async throws {
        for id in ids {
            try await query(
                """
                insert into breakwater.dead_letter (id, queue, kind, priority, payload, reason, attempt, errors, enqueued_at)
                overriding system value
                values ($1, 'default', $2, 5, '{"n": 1}', $3, 2,
                        '[{"name": "first", "message": "no"}, {"name": "http.500", "message": "it broke"}]', now())
                """,
                [.int8(Int64(id)), .text(kind), .text(reason)]
            )
        }
    }

    /// Inserts a kind's circuit, as a starting worker would.
    func makeCircuit(kind: String, key: String = "") async throws {
        try await query("insert into breakwater.circuit (kind, key) values ($1, $2)", [.text(kind), .text(key)])
    }

    /// Creates a role that may log in. The body gets this database's URL as that role, and the role is dropped
    /// afterwards.
    func withRole(_ membership: String?, _ body: (_ url: String) async throws -> Void) async throws {
        let role = "u\(UUID().uuidString.lowercased().replacing("-", with: ""))"
        try await connection.script("create role \(role) login; " + (membership.map { "grant \($0) to \(role)" } ?? ""))
        var parts = try #require(URLComponents(string: url))
        parts.user = role
        try await body(try #require(parts.string))
        try await connection.script("drop owned by \(role); drop role \(role)")
    }
}

extension WorkerBinary.Ending {
    /// The JSON document that the program printed.
    func json<Value>(as type: Value.Type = Value.self) throws -> Value {
        let object = try JSONSerialization.jsonObject(with: Data(output.utf8), options: .fragmentsAllowed)
        return try #require(object as? Value, "\(output)\(errors)")
    }

    /// The messages of the log's lines.
    var messages: [String] { logLines.compactMap { $0["msg"] as? String } }

    /// The log's lines, which are JSON.
    var logLines: [[String: Any]] {
        errors.split(separator: "\n").compactMap {
            try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
        }
    }
}

/// The reasons why suites of commands on a database are skipped.
let needsDatabase = "BREAKWATER_TEST_DATABASE is not set: run scripts/test"
let needsBinary = "there is no executable 'worker' beside the tests"
