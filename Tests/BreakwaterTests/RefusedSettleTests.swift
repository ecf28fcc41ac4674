import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

/// The server refuses to settle one of many jobs, for a reason that has nothing to do with the handler's outcome, such
/// as a user's trigger, a missing right or a broken page.
@Suite("Settling that the server refuses", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct RefusedSettleTests {
    /// Makes an event on a table fail for job 7 alone.
    private func refuse(_ event: String, on table: String, when condition: String = "true", in database: TestDatabase)
        async throws
    {
        try await database.connection.script(
            """
            create sequence refusal;
            create function refuse() returns trigger language plpgsql as $$
            begin
                if \(condition) then
                    raise exception 'nobody touches this one' using errcode = case
                        when tg_argv[0] = '' then 'P0001' else tg_argv[0] end;
                end if;
                return coalesce(new, old);
            end $$;
            create trigger refuse before \(event) on breakwater.\(table) for each row
                when (coalesce(\(event == "insert" ? "new" : "old").id, 0) = 7) execute function refuse('');
            """
        )
    }

    private func handler(_ outcome: @escaping @Sendable (Job) -> JobOutcome, ran: Notes = Notes())
        -> HandlerRegistration
    {
        var settings = HandlerSettings()
        settings.retry.maxAttempts = 1
        settings.circuit.isEnabled = false
        return HandlerRegistration(
            kind: "k",
            plugin: ClosureHandler { job, _ in
                ran.add("\(job.id)")
                return outcome(job)
            },
            settings: settings
        )
    }

    @Test("is stored as a failure that says why, and hinders none of the others")
    func success() async throws {
        try await withTestDatabase { database in
            try await refuse("delete", on: "job", when: "old.attempt = 0", in: database)
            try await database.insert(100, maxAttempts: 2)
            try await database.withWorker([handler { _ in .succeeded() }]) {
                try await waitUntil("all but one end, and that one waits") {
                    try await database.numbers("select id from breakwater.job where run_at is not null or id <> 7") == [
                        7
                    ]
                }
            }
            let row = try await database.query(
                "select attempt, errors -> 0 ->> 'name', errors -> 0 ->> 'message' from breakwater.job"
            )[0]
            #expect(try row[0].int() == 1)
            #expect(try row[1].string() == "unstorable")
            #expect(try row[2].string().contains("nobody touches this one"))
        }
    }

    @Test("snoozes the job, unspent, where not even a failure can be stored")
    func lastFailure() async throws {
        try await withTestDatabase { database in
            try await refuse("insert", on: "dead_letter", in: database)
            try await database.insert(100)
            try await database.withWorker([handler { _ in .failed(JobFailure("broken", "it is broken")) }]) {
                try await waitUntil("all but one end, and that one waits") {
                    try await database.numbers("select id from breakwater.job where run_at is not null or id <> 7") == [
                        7
                    ]
                }
            }
            #expect(try await database.count("dead_letter") == 99)
            #expect(try await database.number("select attempt from breakwater.job") == 0)
        }
    }

    @Test("leaves the job to be given back, where nothing at all can be stored, and the worker goes on")
    func nothing() async throws {
        try await withTestDatabase { database in
            // The server refuses as long as this sequence has not moved, so it refuses to give the job back as well.
            try await refuse(
                "update",
                on: "job",
                when: "not (select is_called from public.refusal)",
                in: database
            )
            try await database.insert(100)
            let ran = Notes()
            let rules = handler({ .failed(JobFailure("broken", "job \($0.id)")) }, ran: ran)
            try await database.connection.script(
                "create trigger refuse_delete before delete on breakwater.job for each row when (old.id = 7) execute function refuse('')"
            )
            try await database.withWorker([rules], configure: { $0.lease = .seconds(4) }) {
                try await waitUntil("all others end") { try await database.count("job") == 1 }
                try await database.insert(100)
                try await waitUntil("and those that come later") { try await database.count("job") == 1 }
                try await database.query("select nextval('refusal')")
                try await waitUntil("the last is given back, and ends") { try await database.count("job") == 0 }
            }
            #expect(try await database.count("dead_letter") == 200)
            #expect((ran.counts["7"] ?? 0) >= 2)
            #expect(try await database.claimsWithJobs() == 0)
        }
    }

    @Test("for a temporary reason is tried again unchanged", arguments: ["55P03", "40001", "53100", "57014"])
    func passing(sqlState: String) async throws {
        try await withTestDatabase { database in
            try await database.connection.script(
                """
                create sequence refusal;
                create function refuse() returns trigger language plpgsql as $$
                begin
                    -- Sequences are not rolled back.
                    if nextval('public.refusal') <= 2 then
                        raise exception 'not now' using errcode = '\(sqlState)';
                    end if;
                    return old;
                end $$;
                create trigger refuse before delete on breakwater.job for each row when (old.id = 7)
                    execute function refuse();
                """
            )
            try await database.insert(20)
            let ran = Notes()
            try await database.withWorker([handler({ _ in .succeeded() }, ran: ran)]) {
                try await waitUntil("all end") { try await database.count("job") == 0 }
            }
            #expect(ran.all.count == 20)
            #expect(try await database.count("dead_letter") == 0)
        }
    }
}
