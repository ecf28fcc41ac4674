import Breakwater
import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import WorkerCommand

@Suite(
    "Hostile input on the command line",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct HostileCommandTests {
    /// Characters that a terminal might act on, except line feeds.
    private func controls(in text: String) -> [Unicode.Scalar] {
        text.unicodeScalars.filter { $0.isControl && $0 != "\n" }
    }

    @Test("is stored as it is, or refused with 64, and never reaches the terminal raw")
    func enqueue() async throws {
        try await withTestDatabase { database in
            // No argument can hold a NUL.
            for sample in HostileCorpus.texts where !sample.value.utf8.contains(0) {
                let text = sample.value
                let isName = HostileCorpus.names.contains { $0.name == sample.name }
                let ending = try await database.worker(
                    "enqueue",
                    "--queue=\(text)",
                    "--unique-key=\(text)",
                    "--",
                    text,
                    "{}"
                )
                #expect(ending.status == (isName ? 0 : 64), "\(sample): \(ending.errors)")
                #expect(controls(in: ending.errors + ending.output) == [], "\(sample)")
                guard isName else { continue }
                let found = try await database.number(
                    "select count(*) from breakwater.job where kind = $1 and queue = $1 and unique_key = $1",
                    [.text(text)]
                )
                #expect(found == 1, "\(sample)")
            }
        }
    }

    @Test("as a payload on standard input is stored as it is, or refused with 64")
    func standardInput() async throws {
        try await withTestDatabase { database in
            for sample in HostileCorpus.refusedPayloads {
                let ending = try await database.worker("enqueue", "k", "-", input: sample.value)
                #expect(ending.status == 64, "\(sample): \(ending.errors.prefix(300))")
                #expect(controls(in: ending.errors) == [], "\(sample)")
            }
            #expect(try await database.number("select count(*) from breakwater.job") == 0)
            let payloads = HostileCorpus.payloads.filter { !$0.name.hasPrefix("a text") }
            for sample in payloads {
                let ending = try await database.worker("enqueue", "k", "-", input: sample.value)
                #expect(ending.status == 0, "\(sample): \(ending.errors.prefix(300))")
            }
            #expect(try await database.number("select count(*) from breakwater.job") == payloads.count)
        }
    }

    @Test("that is not UTF-8 is refused, not repaired", arguments: [#"enqueue k -"#, #"enqueue "$(printf 'k\377')""#])
    func notUTF8(command: String) async throws {
        try await withTestDatabase { database in
            let run = try WorkerBinary.Run(
                ["-c", #"printf '"a\377"' | "$WORKER" "# + command],
                program: URL(filePath: "/bin/sh"),
                environment: ["DATABASE_URL": database.url, "WORKER": WorkerBinary.path.path()]
            )
            let ending = try await run.end()
            #expect(ending.status == 64, "\(ending.errors)")
            #expect(ending.errors.contains("UTF-8"))
            #expect(try await database.number("select count(*) from breakwater.job") == 0)
        }
    }

    @Test("that is in the database is shown without control characters, and as valid JSON with --json")
    func shown() async throws {
        try await withTestDatabase { database in
            let texts = HostileCorpus.texts.map(\.value).filter { !$0.utf8.contains(0) }
            for text in texts {
                let name = HostileCorpus.names.contains { $0.value == text } ? text : "k"
                let payload = text.jsonText
                try await database.query(
                    """
                    insert into breakwater.job (queue, kind, payload, errors, attempt, unique_key)
                    values ($1, $1, $2::jsonb, jsonb_build_array(jsonb_build_object('attempt', 1, 'name', $3, 'message', $3)), 1,
                            nullif(left($3, 100), ''))
                    """,
                    [.text(name), .jsonb(payload), .text(text)]
                )
                try await database.query(
                    """
                    insert into breakwater.dead_letter (id, queue, kind, priority, payload, reason, attempt, errors, enqueued_at,
                                                        unique_key)
                    values (1000 + (select count(*) from breakwater.dead_letter), $1, $1, 5, $2::jsonb, 'exhausted', 1,
                            jsonb_build_array(jsonb_build_object('attempt', 1, 'name', $3, 'message', $3)), now(), $3)
                    """,
                    [.text(name), .jsonb(payload), .text(text)]
                )
                try await database.query(
                    "insert into breakwater.pause (scope, name, reason, actor) values ('queue', $1, $2, $2) on conflict do nothing",
                    [.text(name), .text(text)]
                )
                try await database.query(
                    "insert into breakwater.circuit (kind, key, state, reason) values ($1, left($2, 50), 'open', $2) on conflict do nothing",
                    [.text(name), .text(text)]
                )
            }
            try await database.makeCircuit(kind: "hostile evidence")
            try await database.query(
                """
                insert into breakwater.circuit_transition (kind, key, generation, from_state, to_state, reason, evidence, at)
                select 'hostile evidence', '', 2, 'closed', 'open', string_agg(t, ''), jsonb_build_object(
                           'failures', jsonb_agg(jsonb_build_object('name', t, 'count', 1)),
                           'examples', jsonb_agg(jsonb_build_object('job', 1, 'name', t, 'message', t, 'at', now())),
                           'workers', jsonb_agg(jsonb_build_object('worker', 1, 'name', t, 'count', 1)),
                           'common_value', jsonb_build_object('path', '$.a', 'value', string_agg(t, ''), 'failed', 7,
                                                         'of_failed', 7, 'others', 0, 'of_others', 9)), now()
                  from unnest($1::text[]) t
                union all
                select 'hostile evidence', '', 3, 'half_open', 'open', string_agg(t, ''), jsonb_build_object(
                           'probes', jsonb_agg(jsonb_build_object('job', 1, 'outcome', 'failed', 'name', t, 'message', t,
                                                                  'worker', 1, 'at', now()))), now()
                  from unnest($1::text[]) t
                """,
                [.textArray(texts)]
            )
            try await database.query(
                """
                insert into breakwater.worker (name, version, queues, kinds, concurrency, lease)
                select reason, reason, array[name], array[name], 1, interval '1 hour' from breakwater.pause
                """
            )
            let some = try await database.numbers("select id from breakwater.job order by id").suffix(6).map {
                ["job", "\($0)"]
            }
            let dead = (0..<texts.count).filter { $0 % 7 == 3 }.map { ["dead-letters", "show", "\(1000 + $0)"] }
            let evidence = ["circuits", "show", "hostile evidence"]
            for command in [["status"], ["circuits"], evidence, ["dead-letters", "--limit", "1000"]] + some + dead {
                let plain = try await WorkerBinary.run(command, environment: ["DATABASE_URL": database.url])
                #expect(plain.status == 0, "\(command): \(plain.errors)")
                #expect(controls(in: plain.output + plain.errors) == [], "\(command)")
                let json = try await WorkerBinary.run(command + ["--json"], environment: ["DATABASE_URL": database.url])
                #expect(json.status == 0, "\(command): \(json.errors)")
                #expect(controls(in: json.output) == [], "\(command) --json")
                _ = try json.json(as: Any.self)
            }
            // The shown text is escaped, and reads back as the stored one.
            let letters: [[String: Any]] = try await database.worker("dead-letters", "--limit", "1000", "--json").json()
            #expect(
                Set(letters.compactMap { $0["payload"] as? String }.map { Data($0.utf8) })
                    == Set(texts.map { Data($0.utf8) })
            )
        }
    }
}
