import BreakwaterTesting
import Foundation
import Testing

@testable import WorkerCommand

@Suite(
    "Commands on incidents",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct IncidentCommandTests {
    /// Inserts two incidents. The first has ended and was counted, and the second is still under way.
    private func fill(_ database: TestDatabase) async throws {
        try await database.query(
            """
            insert into breakwater.circuit_incident (
                kind, key, began_at, ended_at, opened_at, confirmed_at, time_open, openings, cause, evidence, end_reason)
            values ('hook', '', now() - interval '2 hours', now() - interval '1 hour', now() - interval '2 hours', now(),
                    '50 minutes', 2, e'10 failures\\nin a row', '{"failures": [{"name": "http.500", "count": 9}]}',
                    '3 probes succeeded'),
                   ('*', 'crm', now() - interval '10 minutes', 'infinity', now() - interval '10 minutes', now(), '0', 1,
                    'asked to', null, null)
            """
        )
        try await database.query(
            """
            insert into breakwater.incident_measure (
                incident, measured_at, counted_to, complete_opening, calls_before, calls, failed, handed_back, dead_letters,
                first_waiting, most_waiting, last_waiting, longest_wait)
            values (1, now(), now(), 2, 100, 40, 12, 5, 3, 70, 900, 800, '45 minutes')
            """
        )
        try await database.bury(1...5, kind: "hook")
        try await database.bury(6...6, kind: "other")
        // One job died before the first incident, four within it, and one after it.
        try await database.query(
            """
            update breakwater.dead_letter
               set died_at = now() - case id when 4 then interval '3 hours' when 5 then interval '1 minute'
                                             else interval '90 minutes' end
            """
        )
    }

    @Test("list them, by kind and time, for people and for programs")
    func list() async throws {
        try await withTestDatabase { database in
            #expect(try await database.worker("incidents").output == "There were no incidents.\n")
            try await fill(database)
            let table = try await database.worker("incidents").output
            #expect(table.split(separator: "\n").count == 3, "\(table)")
            #expect(table.contains("10 failures\\nin a row: http.500 (9)"), "\(table)")
            let all: [[String: Any]] = try await database.worker("incidents", "list", "--json").json()
            #expect(all.map { $0["circuit"] as? String } == ["crm", "hook"])
            for (key, value) in [
                "duration": 3600, "time_open": 3000, "openings": 2, "waiting_at_begin": 70, "most_waiting": 900,
                "waiting": 800, "longest_wait": 2700, "attempts_spent": 7, "handed_back": 5, "dead_letters": 3,
                "calls": 40, "calls_spared": 5960,
            ] {
                #expect(all[1][key] as? Double == Double(value), "\(key)")
            }
            #expect(all[0]["ended_at"] is NSNull && all[0]["attempts_spent"] is NSNull)
            let some = [
                ["--kind", "hook"]: ["hook"], ["--kind", "crm"]: ["crm"], ["--since", "30m"]: ["crm"],
                ["--kind", "x"]: [],
            ]
            for (options, names) in some {
                let found: [[String: Any]] = try await WorkerBinary.run(
                    ["incidents", "list", "--json"] + options,
                    environment: ["DATABASE_URL": database.url],
                    input: nil
                ).json()
                #expect(found.map { $0["circuit"] as? String } == names, "\(options)")
            }
        }
    }

    @Test("show one, and say which command puts its dead letters back")
    func show() async throws {
        try await withTestDatabase { database in
            try await fill(database)
            let shown = try await database.worker("incidents", "show", "1").output
            for text in [
                "http.500 (9)", "1h, of which it was open for 50m", "70 at first, 900 at the most, 800 at last", "45m",
                "3, of which 3 are left", "about 5960", "worker dead-letters redrive --incident 1",
            ] {
                #expect(shown.contains(text), "\(text) in \(shown)")
            }
            let json: [String: Any] = try await database.worker("incidents", "show", "1", "--json").json()
            #expect(json["dead_letters_left"] as? Int == 3)
            #expect((json["evidence"] as? [String: Any])?["failures"] != nil)
            let missing = try await database.worker("incidents", "show", "77")
            #expect(missing.status == 1 && missing.errors.contains("there is no incident 77"))
        }
    }

    @Test("put back the dead letters of an incident alone")
    func redrive() async throws {
        try await withTestDatabase { database in
            try await fill(database)
            let listed: [[String: Any]] = try await database.worker("dead-letters", "--incident", "1", "--json").json()
            #expect(Set(listed.compactMap { $0["id"] as? Int }) == [1, 2, 3])
            let dry = try await database.worker("dead-letters", "redrive", "--incident", "1", "--dry-run").output
            #expect(dry == "3 dead letters would be put back.\n")
            let done = try await database.worker("dead-letters", "redrive", "--incident", "1").output
            #expect(done == "3 dead letters were put back.\n")
            #expect(try await database.numbers("select id from breakwater.dead_letter order by id") == [4, 5, 6])
            #expect(try await database.numbers("select id from breakwater.job order by id") == [1, 2, 3])
            #expect(try await database.worker("dead-letters", "redrive", "--incident", "77", "--json").status == 1)
        }
    }

    @Test("a running worker runs the notify command for an incident")
    func notify() async throws {
        try await withTestDatabase { database in
            let path = FileManager.default.temporaryDirectory.appending(path: "told-\(UUID().uuidString)").path
            defer { try? FileManager.default.removeItem(atPath: path) }
            let file = """
                poll_interval: 50ms
                handlers:
                  broken:
                    exec: { command: ["false"] }
                    circuit: { consecutive_failures: 3 }
                    retry: { base: 100ms, cap: 100ms }
                notify: { command: [tee, -a, "\(path)"] }
                """
            try await database.running(file) { _ in
                try await database.query(
                    "insert into breakwater.job (kind) select 'broken' from generate_series(1, 20)"
                )
                try await waitUntil("the message is delivered") {
                    try await database.number(
                        "select count(*) from breakwater.incident_notice where last_sent = 'began'"
                    )
                        == 1
                }
            }
            let told = try Data(contentsOf: URL(filePath: path))
            let message = try JSONSerialization.jsonObject(with: told) as? [String: Any]
            #expect(message?["type"] as? String == "incident.began")
            #expect((message?["data"] as? [String: Any])?["circuit"] as? String == "broken")
        }
    }
}
