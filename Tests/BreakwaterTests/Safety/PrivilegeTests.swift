import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite(
    "Each role may do what the matrix says and nothing else,",
    .enabled(if: TestDatabase.isAvailable, "\(needsServer)")
)
struct PrivilegeTests {
    private typealias Role = PrivilegeMatrix.Role

    @Test("by the catalogue: with every table, view and sequence", arguments: PrivilegeMatrix.Role.allCases)
    func relations(role: PrivilegeMatrix.Role) async throws {
        try await withTestDatabase { database in
            let rows = try await database.query(
                """
                select c.relname::text, c.relkind::text, case c.relkind
                       when 'S' then (select coalesce(string_agg(p, ',' order by p), '')
                                        from unnest(array['usage', 'select', 'update']) p
                                       where has_sequence_privilege($1, c.oid, p))
                       else (select coalesce(string_agg(p || coalesce('(' || columns || ')', ''), ',' order by p), '')
                               from unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references',
                                                 'trigger']) p
                              cross join lateral (
                                    select string_agg(a.attname, ',' order by a.attname) as columns
                                      from pg_attribute a
                                     where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                                       and p in ('select', 'insert', 'update', 'references')
                                       and not has_table_privilege($1, c.oid, p)
                                       and has_column_privilege($1, c.oid, a.attnum, p)) s
                              where has_table_privilege($1, c.oid, p) or columns is not null) end
                  from pg_class c
                 where c.relnamespace = 'breakwater'::regnamespace and c.relkind not in ('i', 'I', 'c', 't')
                 order by 2, 1
                """,
                [.text(role.rawValue)]
            )
            var seen: Set<String> = []
            for row in rows {
                let (name, kind, found) = (try row[0].string(), try row[1].string(), try row[2].string())
                seen.insert(name)
                guard let wanted = PrivilegeMatrix.privileges(of: role, on: name, kind: kind) else {
                    Issue.record("breakwater.\(name) has no entry in the matrix: decide who may do what with it")
                    continue
                }
                #expect(found == wanted, "\(role.rawValue) on breakwater.\(name)")
            }
            let all = PrivilegeMatrix.tables.union(PrivilegeMatrix.views).union(PrivilegeMatrix.sequences)
            #expect(all.subtracting(seen) == [], "the matrix names what is not there")
        }
    }

    @Test("by the catalogue: with every function, and with the schema itself", arguments: PrivilegeMatrix.Role.allCases)
    func functions(role: PrivilegeMatrix.Role) async throws {
        try await withTestDatabase { database in
            let rows = try await database.query(
                """
                select p.proname::text, has_function_privilege($1, p.oid, 'execute'), p.oid::regprocedure::text
                  from pg_proc p where p.pronamespace = 'breakwater'::regnamespace order by 3
                """,
                [.text(role.rawValue)]
            )
            for row in rows {
                let name = try row[0].string()
                guard let roles = PrivilegeMatrix.functions[name] else {
                    Issue.record("breakwater.\(name) has no entry in the matrix: decide who may call it")
                    continue
                }
                let signature = try row[2].string()
                #expect(try row[1].bool() == roles.contains(role), "\(role.rawValue) on \(signature)")
            }
            let schema = try await database.query(
                "select has_schema_privilege($1, 'breakwater', 'usage'), has_schema_privilege($1, 'breakwater', 'create')",
                [.text(role.rawValue)]
            )[0]
            #expect(try schema[0].bool())
            #expect(try !schema[1].bool())
        }
    }

    /// Goes beyond the catalogue: a function that the role may call must not fail because a privilege is missing inside
    /// it, and a function that the role may not call must be refused.
    @Test("when every function is called", arguments: PrivilegeMatrix.Role.allCases)
    func calls(role: PrivilegeMatrix.Role) async throws {
        try await withTestDatabase { database in
            let calls = try await database.query(
                """
                select p.proname::text, format('select breakwater.%I(%s)', p.proname, (
                           select coalesce(string_agg(format('null::%s', format_type(a.type, null)), ', ' order by a.place), '')
                             from unnest(p.proargtypes::oid[]) with ordinality a(type, place)))
                  from pg_proc p
                 where p.pronamespace = 'breakwater'::regnamespace and p.prorettype <> 'trigger'::regtype
                """
            ).map { (try $0[0].string(), try $0[1].string()) }
            try await withLoginRole(database, memberOf: role.rawValue) { login in
                let connection = try await database.connect(as: login)
                for (name, call) in calls {
                    try await connection.script("begin")
                    let error = await postgresError { _ = try await connection.query(call) }
                    try await connection.script("rollback")
                    let isRefused = error?.sqlState == "42501"
                    let mayCall = PrivilegeMatrix.functions[name]?.contains(role) ?? false
                    #expect(isRefused != mayCall, "\(role.rawValue): \(call): \(error.map { "\($0)" } ?? "no error")")
                }
                await connection.close()
            }
        }
    }

    @Test("when every table and view is read, written and emptied", arguments: PrivilegeMatrix.Role.allCases)
    func statements(role: PrivilegeMatrix.Role) async throws {
        try await withTestDatabase { database in
            try await withLoginRole(database, memberOf: role.rawValue) { login in
                let connection = try await database.connect(as: login)
                for name in PrivilegeMatrix.tables.union(PrivilegeMatrix.views).sorted() {
                    let kind = PrivilegeMatrix.tables.contains(name) ? "r" : "v"
                    let privileges = PrivilegeMatrix.privileges(of: role, on: name, kind: kind) ?? ""
                    let read = await postgresError {
                        _ = try await connection.query("select * from breakwater.\(name)")
                    }
                    // A role that may read only some columns is refused here.
                    let mayRead = privileges.contains("select") && !privileges.contains("select(")
                    #expect((read == nil) == mayRead, "\(name): \(read.map { "\($0)" } ?? "")")
                    var writes = [
                        "delete from breakwater.\(name)", "truncate breakwater.\(name)",
                        "drop table breakwater.\(name)",
                    ]
                    if privileges.isEmpty || privileges == "select" {
                        writes.append("insert into breakwater.\(name) default values")
                    }
                    for write in writes where kind == "r" {
                        let error = await postgresError { _ = try await connection.query(write) }
                        #expect(error?.sqlState == "42501", "\(role.rawValue): \(write)")
                    }
                }
                for statement in [
                    "create table breakwater.mine ()", "create function breakwater.mine() returns int return 1",
                    "alter function breakwater.claim security invoker", "grant breakwater_admin to current_user",
                    "do $$ begin lock breakwater.job in access exclusive mode; end $$",
                    "comment on table breakwater.job is 'mine'",
                    "alter table breakwater.job disable trigger all",
                ] {
                    let error = await postgresError { _ = try await connection.query(statement) }
                    #expect(error?.sqlState == "42501", "\(role.rawValue): \(statement)")
                }
                await connection.close()
            }
        }
    }
}
