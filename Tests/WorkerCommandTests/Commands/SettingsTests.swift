import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import WorkerCommand

/// Runs the main commands under each default setting that a role, a database or a server may have.
@Suite(
    "The program worker migrates, enqueues, works and shows what is there,",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct SettingsTests {
    private static let file = """
        poll_interval: 200ms
        lease: 10s
        log_format: json
        handlers:
          fine: { exec: { command: [cat] }, keep_results: 1h }
          flaky:
            exec: { command: [sh, -c, 'exit 1'] }
            retry: { max_attempts: 2, base: 10ms, budget: off }
            circuit: off
          down:
            exec: { command: [sh, -c, 'echo "at 10.1.2.3:99 of deadbeef01" >&2; exit 69'] }
            circuit: { consecutive_failures: 3, open_for: 1h, open_cap: 1h, suspend_workers: false }
        """

    @Test("where the database sets", arguments: SessionSettings.alone + SessionSettings.together)
    func database(settings: SessionSettings.Case) async throws {
        try await withTestDatabase(isMigrated: false) { pooled in
            var database = try await pooled.watchedDirectly()
            database.url = database.directURL
            try await database.set(settings.settings)
            try await mainPath(
                database,
                url: database.directURL,
                limitsTime: settings.settings.contains { $0.value == "800" },
                mayNotIdle: settings.settings.contains { $0.name == "idle_session_timeout" }
            )
        }
    }

    @Test("where the role sets all of it")
    func role() async throws {
        try await withTestDatabase { pooled in
            var database = try await pooled.watchedDirectly()
            database.url = database.directURL
            try await database.withRole("breakwater_worker, breakwater_admin") { url in
                let role = try #require(URLComponents(string: url)?.user)
                try await database.set(SessionSettings.together[0].settings, role: role)
                try await mainPath(database, url: url)
            }
        }
    }

    private func mainPath(_ database: TestDatabase, url: String, limitsTime: Bool = false, mayNotIdle: Bool = false)
        async throws
    {
        var asked = database
        asked.url = url
        let worker = asked
        @Sendable func succeed(_ arguments: String..., input: String? = nil) async throws -> String {
            let ending = try await WorkerBinary.run(arguments, environment: ["DATABASE_URL": url], input: input)
            #expect(ending.status == 0, "\(arguments): \(ending.errors)")
            return ending.output
        }
        _ = try await succeed("migrate")
        if limitsTime {
            // The trigger waits until the test has seen the call take longer than the setting allows a statement or a
            // transaction.
            try await database.query("create table public.seen ()")
            try await database.query(
                """
                create function public.wait_until_seen() returns trigger language plpgsql as
                $$ begin
                    while not exists (select from public.seen) loop perform pg_sleep(0.02); end loop;
                    return new;
                end $$
                """
            )
            try await database.query(
                """
                create trigger wait_until_seen before insert on breakwater.dead_letter for each row
                execute function public.wait_until_seen()
                """
            )
        }
        for _ in 0..<3 { _ = try await succeed("enqueue", "down", #"{"text": "a\\b", "n": [null, 1.5]}"#) }
        _ = try await succeed("enqueue", "flaky", "--run-at", "2026-01-02T03:04:05Z")
        let later = try await succeed("enqueue", "fine", "--run-at", "2999-12-31T00:00:00Z")
        let lines =
            #"{"kind": "fine", "payload": {"é": "ü☃"}}"# + "\n" + #"{"kind": "flaky", "unique_key": "u"}"# + "\n"
        _ = try await succeed("enqueue", "--file", "-", input: lines)

        let ending = try await worker.running(Self.file) { run in
            if limitsTime {
                try await waitUntil("a call takes longer than it may") {
                    try await database.number(
                        """
                        select count(*) from pg_stat_activity
                         where datname = current_database() and pid <> pg_backend_pid() and state = 'active'
                           and query like '%breakwater.settle(%' and query_start < clock_timestamp() - interval '1 s'
                        """
                    ) > 0
                }
                try await database.query("insert into public.seen default values")
            }
            try await waitUntil("all is settled") {
                try await database.number(
                    """
                    select (select count(*) from breakwater.dead_letter where reason = 'exhausted')
                         + (select count(*) from breakwater.result)
                         + (select count(*) from breakwater.circuit where kind = 'down' and state <> 'closed')
                    """
                ) == 4
            }
            if mayNotIdle {
                try await waitUntil("a session is idle for longer than it may be") {
                    try await database.number(
                        """
                        select count(*) from pg_stat_activity
                         where datname = current_database() and pid <> pg_backend_pid() and state = 'idle'
                           and state_change < now() - interval '2.5 s'
                        """
                    ) > 0
                }
            }
            for arguments in [
                ["status", "--json"], ["circuits", "list"], ["incidents", "list"], ["dead-letters", "list"],
                ["job", later.trimmingCharacters(in: .whitespacesAndNewlines)],
            ] {
                let shown = try await WorkerBinary.run(arguments, environment: ["DATABASE_URL": url])
                #expect(shown.status == 0, "\(arguments): \(shown.errors)")
            }
            #expect(try await succeed("status").contains("down"))
            _ = try await succeed("pause", "--kind", "fine", "--reason", "a test")
            _ = try await succeed("dead-letters", "redrive", "--kind", "flaky")
            try await waitUntil("they died again") {
                try await database.number("select count(*) from breakwater.dead_letter") == 2
            }
        }
        #expect(ending.status == 0, "\(ending.errors)")
        let troubles = ending.logLines.filter { ["warning", "error", "critical"].contains($0["level"] as? String) }
        #expect(troubles.isEmpty, "\(troubles)")
    }

    @Test(
        "or refuses at migrate a database whose encoding is not UTF8, with one sentence",
        arguments: ["LATIN1", "SQL_ASCII"]
    )
    func encoding(encoding: String) async throws {
        try await withTestDatabase(isMigrated: false) { pooled in
            let server = try await pooled.watchedDirectly()
            let name = "\(server.name)_\(encoding.lowercased())"
            try await server.connection.script(
                "create database \(name) encoding '\(encoding)' lc_collate 'C' lc_ctype 'C' template template0",
                timeout: .seconds(120)
            )
            var parts = try #require(URLComponents(string: server.directURL))
            parts.path = "/\(name)"
            let url = try #require(parts.string)
            let ending = try await WorkerBinary.run(["migrate"], environment: ["DATABASE_URL": url])
            #expect(ending.status == 78)
            #expect(ending.errors.contains("the encoding \(encoding), and Breakwater needs UTF8"), "\(ending.errors)")
            try await server.connection.script("drop database \(name) with (force)", timeout: .seconds(120))
        }
    }
}
