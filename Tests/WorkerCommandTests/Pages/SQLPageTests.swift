import BreakwaterTesting
import Foundation
import Libpq
import Testing

/// Compares the SQL reference with the schema. What it documents is what the roles of users may use.
@Suite("The SQL reference", .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"))
struct SQLPageTests {
    /// The roles of users. A worker's functions are its own protocol.
    private static let roles = ["breakwater_enqueue", "breakwater_monitor", "breakwater_admin"]

    private static let pages = ["SQLReference", "SQLEnqueueing", "SQLJobs", "SQLRules", "SQLViews"]

    /// A signature with single spaces, in lower case, with the short names of types.
    private func plain(_ signature: String) -> String {
        signature.lowercased()
            .replacing(/::(?:timestamp with time zone|double precision|[a-z0-9_]+)(?:\[\])?/, with: "")
            .replacing("timestamp with time zone", with: "timestamptz")
            .replacing("timestamp without time zone", with: "timestamp")
            .replacing(/\s+/, with: " ").replacing("( ", with: "(").replacing(" )", with: ")")
            .trimmingCharacters(in: .whitespaces)
    }

    /// The signatures in the blocks of code of a text.
    private func signatures(in text: String) -> [String] {
        text.codeBlocks("sql").filter { $0.hasPrefix("breakwater.") }.flatMap { block in
            let starts = block.matches(of: /(?:^|\n)breakwater\.[a-z_]+\(/).map(\.range.lowerBound) + [block.endIndex]
            return zip(starts, starts.dropFirst()).map { plain(String(block[$0..<$1])) }
        }
    }

    @Test("has each function that users may call, with the names, types and defaults of its arguments, and no other")
    func functions() async throws {
        let known = try await withTestDatabase { database in
            try await database.query(
                """
                select format('breakwater.%s(%s) returns %s', p.proname, pg_get_function_arguments(p.oid),
                              pg_get_function_result(p.oid))
                  from pg_proc p
                 where p.pronamespace = 'breakwater'::regnamespace
                   and exists (select from unnest(string_to_array($1, ' ')) r
                                where has_function_privilege(r, p.oid, 'execute'))
                """,
                [.text(Self.roles.joined(separator: " "))]
            ).map { plain(try $0[0].string()) }
        }
        #expect(known.count > 50)
        let listed = try Self.pages.flatMap { signatures(in: try DocumentationPage($0).text) }
        for signature in known.filter({ !listed.contains($0) }).sorted() {
            Issue.record("the reference lacks \(signature)")
        }
        for signature in listed.filter({ !known.contains($0) }).sorted() {
            Issue.record("the schema lacks \(signature), or users may not call it")
        }
        #expect(Set(listed).count == listed.count, "a function is listed twice")
    }

    @Test("has each function under a heading of its name, with an explanation")
    func headings() throws {
        for page in ["SQLEnqueueing", "SQLJobs", "SQLRules"] {
            let sections = try DocumentationPage(page).sections(level: 3)
            #expect(sections.count > 5)
            for section in sections {
                let own = signatures(in: section.text)
                #expect(!own.isEmpty && own.allSatisfy { $0.hasPrefix("breakwater.\(section.heading)(") })
                let prose = section.text.replacing(/```.*?```/.dotMatchesNewlines(), with: "")
                #expect(prose.contains(/\w.*\.\n/), "\(section.heading)")
            }
        }
    }

    @Test("has each view and table that users may read, with the columns of those that are for users, and no other")
    func views() async throws {
        let page = try DocumentationPage("SQLViews")
        let others = page.text.split(separator: "\n").filter { $0.wholeMatch(of: /(?:`[a-z_]+`[,.] ?)+/) != nil }
            .flatMap { String($0).quotedWords }
        #expect(others.count > 20)
        var documented: [String: [String]] = [:]
        for section in page.sections(level: 3) {
            documented[section.heading] = section.text.tableRows.flatMap { $0[0].quotedWords }
        }
        let rows = try await withTestDatabase { database in
            try await database.query(
                """
                select c.relname::text, coalesce(string_agg(a.attname::text, ' '), '')
                  from pg_class c
                  left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                 where c.relnamespace = 'breakwater'::regnamespace and c.relkind in ('r', 'p', 'v')
                   and not c.relispartition
                   and exists (select from unnest(string_to_array($1, ' ')) r
                                where has_table_privilege(r, c.oid, 'select'))
                 group by c.oid, c.relname
                """,
                [.text(Self.roles.joined(separator: " "))]
            ).map { (name: try $0[0].string(), columns: try $0[1].string().split(separator: " ").map(String.init)) }
        }
        #expect(Set(rows.map(\.name)).symmetricDifference(Array(documented.keys) + others) == [])
        for (name, columns) in rows {
            guard let listed = documented[name] else { continue }
            #expect(listed.sorted() == columns.sorted(), "\(name)")
        }
    }

    @Test("has examples that run")
    func examples() async throws {
        let examples = try Self.pages.flatMap { try DocumentationPage($0).text.codeBlocks("sql") }
            .filter { $0.hasPrefix("SELECT") }
            .flatMap { $0.components(separatedBy: ";\n") }
        #expect(examples.count > 40)
        try await runEach(examples)
    }

    @Test("is right in the queries of the pages for users and operators", arguments: ["Runbooks", "MyJobDoesNotRun"])
    func queries(page: String) async throws {
        let queries = try DocumentationPage(page).text.codeBlocks("sql").flatMap { $0.components(separatedBy: ";\n") }
        #expect(queries.count > 2)
        try await runEach(queries)
    }

    /// Runs each statement in a transaction that is rolled back, on a database with the things that they name.
    private func runEach(_ statements: [String]) async throws {
        try await withTestDatabase { database in
            let database = try await database.watchedDirectly()
            try await database.makeCircuit(kind: "webhook.deliver")
            try await database.query(
                "update breakwater.circuit set state = 'open', retry_at = now() + interval '1 hour'"
            )
            try await database.query("select breakwater.set_endpoint('acme', 'https://hooks.acme.example/in')")
            try await database.query(
                "select breakwater.set_schedule('nightly-report', cron => '0 3 * * *', kind => 'report.build')"
            )
            try await database.query(
                "select breakwater.set_limit('per customer', concurrency => 1, key => '$.customer', kinds => '{k}')"
            )
            for statement in statements {
                try await database.query("begin")
                do {
                    try await database.query(statement)
                } catch {
                    Issue.record("\(statement)\n\(error)")
                }
                try await database.query("rollback")
            }
        }
    }
}
