import ArgumentParser
import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import WorkerCommand

@Suite("The page's actions")
struct ActionsPageTests {
    private struct Line {
        var action: String
        var functions: [String]
        var address: String
        var command: [String]
    }

    private let catalogue = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../../../Sources/Breakwater/Breakwater.docc")

    private func cells(_ page: String, after heading: String) throws -> [[String]] {
        let text = try String(contentsOf: catalogue.appending(path: page), encoding: .utf8)
        let section = try #require(text.split(separator: "\n\(heading)\n").last)
        return section.split(separator: "\n").prefix { !$0.hasPrefix("## ") }.filter { $0.hasPrefix("| `") }.map {
            row in
            row.split(separator: "|", omittingEmptySubsequences: false).dropFirst().dropLast()
                .map { $0.trimmingCharacters(in: .whitespaces) }
        }
    }

    private func quoted(_ cell: String) -> [String] { cell.matches(of: /`([^`]+)`/).map { String($0.1) } }

    private func lines() throws -> [Line] {
        let lines = try cells("Observability.md", after: "## Actions").map { cells in
            Line(
                action: quoted(cells[0]).joined(),
                functions: quoted(cells[2]),
                address: quoted(cells[3]).joined(),
                command: quoted(cells[4]).joined().split(separator: " ").map(String.init)
            )
        }
        try #require(lines.count > 10)
        return lines
    }

    /// The arguments with which each function is called, on a database that was prepared for it.
    private let calls = [
        "open_circuit": "('k', 'why')", "close_circuit": "('k', 'why')", "disable_circuit": "('k', 'why')",
        "observe_circuit": "('k', 'why')", "reset_circuit": "('k', 'why')", "probe_circuit": "('p', 'why')",
        "pause_queue": "('q', 'why')", "resume_queue": "('q')", "pause_kind": "('k', 'why')", "resume_kind": "('k')",
        "set_limit": "('k', 5)", "remove_limit": "('k')", "set_share_weight": "('k', 't', 2)",
        "set_key_limit": "('keyed', 'v', 5)", "remove_key_limit": "('keyed', 'v')",
        "edit_job": "(1, max_attempts => 7)",
        "cancel_jobs": "(payload => '{\"n\": 4}', limit_to => 1)",
        "run_jobs_now": "(payload => '{\"n\": 5}', limit_to => 1)",
        "cancel_jobs_some": "(null, null, '{\"n\": 4}', null, null, null, 1, false, 'why', 'ann')",
        "run_jobs_now_some": "(null, null, '{\"n\": 5}', null, null, null, 1, false, 'why', 'ann')",
        "run_now": "(1)", "run_through": "(1)", "cancel": "(2)", "set_priority": "(1, 3)",
        "rename_kind": "('r', 'k')", "rename_kind_some": "('r', 'k', null, 10, 'why', 'ann')",
        "redrive": "(101)", "redrive_some": "('{102}', null, null, null, null, 10, null, 'ann')",
        "purge": "(103)", "purge_some": "('{104}', null, null, null, null, 10, null, 'ann')",
        "set_schedule": "('s', every => '1h', kind => 'k')", "pause_schedule": "('s', 'why')",
        "resume_schedule": "('s')", "run_schedule": "('s')", "remove_schedule": "('s')",
        "redeliver_endpoint": "('2', now() - interval '1 hour')",
        "set_endpoint": "('acme', 'https://a.example/')", "disable_endpoint": "('acme', 'why')",
        "enable_endpoint": "('acme')", "remove_endpoint": "('acme')",
        "drain_worker": "(7, 'why')", "undrain_worker": "(7)",
    ]

    @Test(
        "are all that SQL has, each under its name in the audit log",
        .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)")
    )
    func functions() async throws {
        let lines = try lines()
        try await withTestDatabase { database in
            // These functions write into the audit log, and administrators may call them.
            let known = try await database.query(
                """
                select distinct p.proname::text from pg_proc p
                 where p.pronamespace = 'breakwater'::regnamespace
                   and p.prosrc ~ 'record_action|record_portion|override_circuit|pause_scope|resume_scope|rename_kind_some|put_schedule|do_disable_endpoint|redrive_some|change_jobs_some|change_all_jobs'
                   and has_function_privilege('breakwater_admin', p.oid, 'execute')
                """
            ).map { try $0[0].string() }
            #expect(Set(known).symmetricDifference(lines.flatMap(\.functions)) == [])

            try await database.makeCircuit(kind: "k")
            try await database.makeCircuit(kind: "p")
            try await database.query("update breakwater.circuit set state = 'open' where kind = 'p'")
            try await database.query(
                "insert into breakwater.job (kind, run_at) select 'k', now() + interval '1 hour' from generate_series(1, 2)"
            )
            try await database.query(
                """
                insert into breakwater.job (kind, payload, run_at)
                select 'b', jsonb_build_object('n', n), now() + interval '1 hour' from unnest(array[4, 4, 5, 5]) n
                """
            )
            try await database.query("select breakwater.set_limit('keyed', 5, key => '$.n')")
            try await database.bury(101...105, kind: "k")
            // The payload of the last one names the endpoint 2.
            try await database.query("update breakwater.dead_letter set payload = '{\"n\": 2}' where id = 105")
            try await database.query(
                "insert into breakwater.endpoint_kind (kind, path, when_disabled) values ('k', '{n}', 'hold')"
            )
            try await database.query(
                """
                insert into breakwater.worker (id, name, version, queues, kinds, concurrency, lease, beat_at)
                overriding system value values (7, 'w', '1', '{default}', '{k}', 1, '1 hour', now())
                """
            )
            for line in lines {
                for function in line.functions {
                    let call = try #require(calls[function], "the test does not know how to call \(function)")
                    try await database.query("select * from breakwater.\(function)\(call)")
                    let newest = try await database.query(
                        "select action, role from breakwater.audit order by id desc limit 1"
                    )
                    #expect(try newest.first?["action"].string() == line.action, "\(function)")
                    #expect(try newest.first?["role"].string() == "postgres")
                }
            }
            let written = try await database.query("select distinct action from breakwater.audit").map {
                try $0[0].string()
            }
            #expect(Set(written).symmetricDifference(lines.map(\.action)) == [])
        }
    }

    @Test("are at the dashboard's addresses, and no other address changes anything")
    func addresses() throws {
        let posts = try cells("Dashboard.md", after: "## Every address").filter { $0.count > 2 && !$0[2].isEmpty }
        #expect(
            Set(posts.flatMap { quoted($0[0]) }).symmetricDifference(try lines().map(\.address).filter { !$0.isEmpty })
                == []
        )
        let told = posts.flatMap { quoted($0[2]) }
        #expect(Set(told).isSubset(of: try lines().map(\.action)))
    }

    @Test("are commands of the program")
    func commands() throws {
        for line in try lines() where !line.command.isEmpty {
            #expect(line.command.first == "worker")
            var at: any ParsableCommand.Type = RootCommand.self
            for word in line.command.dropFirst() {
                at = try #require(
                    at.configuration.subcommands.first { $0._commandName == word },
                    "there is no \(line.command.joined(separator: " "))"
                )
            }
        }
    }
}
