import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Losing the database", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct LossTests {
    private let terminate = """
        select count(pg_terminate_backend(pid)) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()
        """

    @Test("again and again while jobs flow loses none, and each ends")
    func terminated() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let ran = Notes()
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { job, _ in
                    ran.add("\(job.id)")
                    try await Task.sleep(for: .milliseconds(1))
                    return job.id % 10 == 0 ? .discarded(JobFailure("tenth", "by design")) : .succeeded()
                }
            )
            try await database.insert(3000)
            try await database.withWorker([handler], configure: { $0.concurrency = 20 }) {
                for round in 1...8 {
                    let before = ran.all.count
                    try await waitUntil("it goes on after loss \(round - 1)") {
                        let remaining = try await database.count("job")
                        return ran.all.count >= before + 50 || remaining == 0
                    }
                    try await database.query(terminate)
                }
                try await waitUntil("all end") { try await database.count("job") == 0 }
            }
            #expect(Set(ran.all).count == 3000)
            #expect(try await database.count("dead_letter") == 300)
            #expect(try await database.number("select max(attempt) from breakwater.dead_letter") == 1)
            #expect(try await database.claimsWithJobs() == 0)
        }
    }

    @Test("a worker that was deregistered cancels its runs, registers again, and continues")
    func deregistered() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let (door, cancelled, ran) = (Door(), Notes(), Notes())
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { job, _ in
                    do { try await door.pass() } catch {
                        cancelled.add("\(job.id)")
                        throw error
                    }
                    ran.add("\(job.id)")
                    return .succeeded()
                }
            )
            try await database.insert(5)
            try await database.withWorker([handler], configure: { $0.lease = .seconds(5) }) {
                try await waitUntil("they run") { door.waiting == 5 }
                let first = try await database.number("select id from breakwater.worker")
                // A rescue deregisters a worker in the same way.
                try await database.query(
                    """
                    select breakwater.deregister_worker(\(first))
                      from breakwater.release_claims(\(first), '{}', interval '5 seconds')
                    """
                )
                try await waitUntil("it cancels them") { cancelled.all.count == 5 }
                door.open()
                try await waitUntil("they end after all") { try await database.count("job") == 0 }
                #expect(try await database.number("select id from breakwater.worker") > first)
            }
            #expect(ran.counts == ["1": 1, "2": 1, "3": 1, "4": 1, "5": 1])
        }
    }

    @Test("the jobs of a worker that dies run on another, unspent")
    func otherWorker() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let dead = try await HandWorker(database, lease: .seconds(1))
            try await database.insert(20)
            #expect(try await dead.claim(10).count == 10)
            let attempts = Notes()
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { job, _ in
                    attempts.add("\(job.attempt)")
                    return .succeeded()
                }
            )
            try await database.withWorker([handler]) {
                try await waitUntil("all end") { try await database.count("job") == 0 }
            }
            #expect(attempts.counts == ["1": 20])
        }
    }

    @Test("a claim on a lost connection is given back, even if it commits after its worker has connected again")
    func lateAnswer() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
            try await database.withWorker([handler], configure: { $0.lease = .seconds(2) }) {
                try await waitUntil("it is there") { try await database.count("worker") == 1 }
                let worker = try await database.number("select id from breakwater.worker")
                try await database.query("begin")
                try await database.insert(5)
                try await database.query(
                    "select * from breakwater.claim(\(worker), '{default}', '{k}', '{5}', '{1}', '{9}', '{9}', 9, false)"
                )
                let other = try await database.connectDirectly()
                _ = try await other.query(
                    """
                    select count(pg_terminate_backend(pid)) from pg_stat_activity
                     where datname = current_database() and pid not in (pg_backend_pid(), \(database.connection.backendPID))
                    """
                )
                // The worker has connected again when it runs new jobs, in a lane that the open claim does not hold.
                _ = try await other.query("insert into breakwater.job (kind, priority) values ('k', 0)")
                try await waitUntil("it is back") {
                    try await other.query("select count(*) from breakwater.job")[0][0].int() == 0
                }
                try await database.query("commit")
                try await waitUntil("they run") { try await database.count("job") == 0 }
                #expect(try await database.number("select id from breakwater.worker") == worker)
            }
        }
    }

    @Test("a claim whose answer was lost is given back while the worker lives on")
    func lostAnswer() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
            try await database.withWorker([handler]) {
                try await waitUntil("it is there") { try await database.count("worker") == 1 }
                // This claims in the worker's name, on a connection that the worker does not know.
                let worker = try await database.number("select id from breakwater.worker")
                try await database.query("begin")
                try await database.insert(5)
                let claimed = try await database.query(
                    """
                    select unnest(ids)
                      from breakwater.claim(\(worker), '{default}', '{k}', '{5}', '{1}', '{9}', '{9}', 9, false)
                    """
                )
                #expect(claimed.count == 5)
                try await database.query("commit")
                try await database.query(terminate)
                try await waitUntil("they run") { try await database.count("job") == 0 }
            }
        }
    }

    @Test("of every claim to an error of the server makes it try again after longer and longer pauses")
    func failingClaims() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            try await database.query(
                """
                create function public.refuse() returns trigger language plpgsql as
                $$ begin raise exception 'no claim today'; end $$
                """
            )
            try await database.query(
                "create trigger refuse before insert on breakwater.claim for each row execute function public.refuse()"
            )
            let log = RecordedLog()
            let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
            try await database.withLoggedWorker([handler], log, configure: { $0.lease = .seconds(60) }) {
                try await database.insert(3)
                // The first pauses are a tenth of a second at most, and the seventh in a row is at least half a second.
                try await waitUntil("it has waited seven times") {
                    log.lines.filter { $0.contains("connecting again for claims") }.count >= 8
                }
                let pauses = log.lines.filter { $0.contains("connecting again for claims") }.compactMap { line in
                    line.split(separator: "pause_seconds=").last.flatMap { Double($0) }
                }
                #expect(pauses.prefix(2).allSatisfy { $0 <= 0.2 }, "\(pauses)")
                #expect(pauses[6...].allSatisfy { $0 >= 0.5 }, "\(pauses)")
                try await database.query("drop trigger refuse on breakwater.claim")
                try await waitUntil("they run") { try await database.count("job") == 0 }
            }
        }
    }

    @Test("to a server that is read-only (SQLSTATE 25006) makes it connect anew until it finds one that writes")
    func readOnly() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
            // This goes around the pooler, because a pooler keeps its sessions.
            let configure = { @Sendable (configuration: inout WorkerConfiguration) in
                configuration.database = ConnectionOptions(database.directURL)
                configuration.lease = .seconds(60)
            }
            let sessions = "select sessions from pg_stat_database where datname = current_database()"
            try await database.withWorker([handler], configure: configure) {
                try await waitUntil("it is there") { try await database.count("worker") == 1 }
                // A worker makes its own sessions writable, so a trigger raises the error that a standby would.
                try await database.query(
                    """
                    create function public.refuse() returns trigger language plpgsql as $$
                    begin
                        raise exception using errcode = '25006', message = 'cannot execute INSERT in a read-only transaction';
                    end $$
                    """
                )
                try await database.query(
                    "create trigger refuse before insert on breakwater.claim execute function public.refuse()"
                )
                let before = try await database.number(sessions)
                try await database.insert(3)
                try await waitUntil("it connects anew, again and again") {
                    try await database.number(sessions) > before + 2
                }
                #expect(try await database.count("job") == 3)
                try await database.query("drop trigger refuse on breakwater.claim")
                try await waitUntil("they run") { try await database.count("job") == 0 }
            }
        }
    }

    @Test(
        "to a standby without the last positions and claims: jobs are found, though they get the same positions again",
        arguments: [true, false]
    )
    func positionsDrawnAgain(endsConnections: Bool) async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
            let configure = { @Sendable (configuration: inout WorkerConfiguration) in
                configuration.pollInterval = .milliseconds(50)
            }
            try await database.withWorker([handler], configure: configure) {
                try await database.insert(20)
                try await waitUntil("the first end") { try await database.count("job") == 0 }
                // This takes several polls, so that the floor moves.
                try await Task.sleep(for: .seconds(1))
                // A standby that lags lacks all of these changes.
                try await database.query(
                    """
                    with claims as (delete from breakwater.claim), horizon as (delete from breakwater.horizon)
                    select setval('breakwater.job_position', 1)
                    """
                )
                // Behind a pooler, the worker may not notice that its connection leads to another server.
                if endsConnections { try await database.query(terminate) }
                try await database.insert()
                try await waitUntil("it runs") { try await database.count("job") == 0 }
            }
        }
    }
}
