import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Row-level security without a policy", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct RowSecurityTests {
    /// Changes every table of the schema in the same way.
    private func alterAll(_ database: TestDatabase, _ change: String) async throws {
        for table in PrivilegeMatrix.tables.sorted() {
            try await database.query("alter table breakwater.\(table) \(change)")
        }
    }

    /// Gives the schema and its objects to a role that is subject to row-level security, which a superuser is not.
    private func giveAway(_ database: TestDatabase, to owner: String) async throws {
        try await database.connection.script(
            """
            do $$
            declare v text;
            begin
                execute 'alter schema breakwater owner to \(owner)';
                for v in select oid::regclass from pg_class where relnamespace = 'breakwater'::regnamespace and relkind in ('r', 'p', 'v', 'S')
                             and not exists (select from pg_depend d where d.objid = pg_class.oid and d.deptype = 'i' and d.classid = 'pg_class'::regclass
                                                and d.refobjid <> d.objid)
                loop execute format('alter table %s owner to \(owner)', v); end loop;
                for v in select oid::regprocedure from pg_proc where pronamespace = 'breakwater'::regnamespace
                loop execute format('alter function %s owner to \(owner)', v); end loop;
            end $$;
            """
        )
    }

    @Test("on every table: workers and enqueue go on; a plain INSERT is refused with the reason")
    func enabled() async throws {
        try await withTestDatabase { database in
            try await withLoginRole(database) { owner in
                try await giveAway(database, to: owner)
                try await alterAll(database, "enable row level security")
                try await withLoginRole(database, memberOf: "breakwater_enqueue") { role in
                    let connection = try await database.connect(as: role)
                    _ = try await connection.query("select breakwater.enqueue('k')")
                    let refusal = await postgresError {
                        _ = try await connection.query("insert into breakwater.job (kind) values ('k')")
                    }
                    #expect(refusal?.sqlState == "42501")
                    #expect(refusal?.message.contains("row-level security") == true)
                    await connection.close()
                }
                try await withLoginRole(database, memberOf: "breakwater_worker") { role in
                    let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
                    try await database.withWorker([handler], configure: { $0.database = database.options(for: role) }) {
                        try await waitUntil("the job has run") { try await database.count("job") == 0 }
                    }
                }
                // The server may still be working on a worker's last request.
                try await waitUntil("nobody is at work there") {
                    try await database.number(
                        """
                        select count(*) from pg_stat_activity
                         where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
                           and state <> 'idle'
                        """
                    ) == 0
                }
                try await database.connection.script("reassign owned by \(owner) to postgres; drop owned by \(owner)")
            }
        }
    }

    @Test("that is forced on the owner: no worker starts, and the error says which tables and what to do")
    func forced() async throws {
        try await withTestDatabase { database in
            try await withLoginRole(database) { owner in
                try await giveAway(database, to: owner)
                try await database.query("alter table breakwater.job enable row level security")
                try await database.query("alter table breakwater.job force row level security")
                let refusal = await postgresError { _ = try await HandWorker(database) }
                #expect(refusal?.sqlState == "42501")
                #expect(refusal?.message.contains("row-level security is forced") == true)
                #expect(refusal?.message.contains("sees nothing: job") == true)
                #expect(refusal?.hint?.contains("NO FORCE ROW LEVEL SECURITY") == true)
                // A policy lets the worker start again, because its author knows which rows it shows.
                try await database.query("create policy owner_sees_all on breakwater.job to \(owner) using (true)")
                let worker = try await HandWorker(database)
                try await database.query("drop policy owner_sees_all on breakwater.job")
                try await database.query("alter table breakwater.job no force row level security")
                try await database.insert()
                #expect(try await worker.claim().count == 1)
                await worker.connection.close()
                try await database.connection.script("reassign owned by \(owner) to postgres; drop owned by \(owner)")
            }
        }
    }
}
