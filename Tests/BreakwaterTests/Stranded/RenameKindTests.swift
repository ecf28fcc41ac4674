import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Renaming a kind", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct RenameKindTests {
    private func rename(_ database: TestDatabase) async throws -> [Int] {
        let row = try await database.query(
            "select jobs, dead_letters, left_alone from breakwater.rename_kind('k', 'new', 'its handler was renamed', 'ann')"
        )[0]
        return [try row[0].int(), try row[1].int(), try row[2].int()]
    }

    @Test("moves waiting, scheduled, retrying, parked and dead jobs; running jobs end under the old name")
    func everyState() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(6)
            let running = try await worker.claim(2)
            try await worker.settle(try await worker.claim(1), .failed(delay: .seconds(3600)))
            try await worker.settle(try await worker.claim(1), .discarded)
            try await database.query(
                """
                insert into breakwater.job (kind, run_at, parked)
                values ('k', now() + interval '1 hour', null), ('k', 'infinity', 'host'), ('other', null, null)
                """
            )
            #expect(try await rename(database) == [5, 1, 2])
            #expect(try await database.numbers("select id from breakwater.job where kind = 'k' order by id") == [1, 2])
            let moved = try await database.texts(
                """
                select format('%s %s %s', id, case when run_at is null then 'ready' else 'later' end, attempt)
                  from breakwater.job where kind = 'new' order by id
                """
            )
            #expect(moved == ["3 later 1", "5 ready 0", "6 ready 0", "7 later 0", "8 ready 0"])
            #expect(try await database.text("select kind from breakwater.dead_letter") == "new")
            #expect(
                try await database.text(
                    "select actor || ' ' || action || ' ' || target || ' ' || details from breakwater.audit"
                )
                    == #"ann kind.rename k {"to": "new", "jobs": 5, "dead_letters": 1}"#
            )
            let new = try await HandWorker(database, ["new"])
            #expect(Set(try await new.claim().map(\.id)) == [5, 6, 8])
            #expect(try await worker.settle(running).settled == 2)
        }
    }

    @Test("leaves jobs whose unique key a job of the new kind has")
    func uniqueKeys() async throws {
        try await withTestDatabase { database in
            try await database.query(
                "insert into breakwater.job (kind, unique_key) values ('k', 'a'), ('k', 'b'), ('new', 'a')"
            )
            #expect(try await rename(database) == [1, 0, 1])
            #expect(try await database.numbers("select id from breakwater.job where kind = 'k'") == [1])
        }
    }

    @Test("renames more than one portion, with one line in the audit log")
    func portions() async throws {
        try await withTestDatabase { database in
            try await database.insert(12_500)
            #expect(try await rename(database) == [12_500, 0, 0])
            #expect(try await database.texts("select details ->> 'jobs' from breakwater.audit") == ["12500"])
        }
    }

    @Test("is refused to the same name, and to one that no handler could have")
    func refusals() async throws {
        try await withTestDatabase { database in
            for (old, new) in [("k", "k"), ("k", "")] {
                let error = await postgresError {
                    try await database.query("select breakwater.rename_kind($1, $2)", [.text(old), .text(new)])
                }
                #expect(error?.sqlState == "22023")
            }
        }
    }
}
