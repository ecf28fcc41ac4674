import Breakwater
import BreakwaterTesting
import Libpq
import Testing

@Suite("Enqueueing", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct EnqueueTests {
    @Test("by enqueue() keeps every argument")
    func everyArgument() async throws {
        try await withTestDatabase { database in
            let id = try await database.number(
                """
                select breakwater.enqueue('email.send', '{"to":"a@b.c"}', queue => 'bulk', priority => 2,
                    run_at => '2100-01-01', max_attempts => 7, unique_key => 'u', traceparent => '00-ab-cd-01')
                """
            )
            let row = try await database.query("select * from breakwater.job where id = $1", [.int8(Int64(id))])[0]
            #expect(try row["kind"].string() == "email.send")
            #expect(try row["payload"].string() == #"{"to": "a@b.c"}"#)
            #expect(try row["queue"].string() == "bulk")
            #expect(try row["priority"].int() == 2)
            #expect(!row["run_at"].isNull)
            #expect(try row["max_attempts"].int() == 7)
            #expect(try row["unique_key"].string() == "u")
            #expect(try row["traceparent"].string() == "00-ab-cd-01")
            #expect(try row["attempt"].int() == 0)
        }
    }

    @Test("by enqueue() with a kind alone takes the defaults")
    func defaults() async throws {
        try await withTestDatabase { database in
            try await database.query("select breakwater.enqueue('k')")
            let row = try await database.query("select * from breakwater.job")[0]
            #expect(try row["queue"].string() == "default")
            #expect(try row["priority"].int() == 5)
            #expect(try row["payload"].string() == "{}")
            #expect(row["run_at"].isNull)
            #expect(row["max_attempts"].isNull)
        }
    }

    @Test("many at once answers with their ids in the order of the payloads")
    func manyInOrder() async throws {
        try await withTestDatabase { database in
            let ids = try await database.numbers(
                """
                select breakwater.enqueue_many('k', array(select to_jsonb(n) from generate_series(1, 5000) n),
                    queue => 'bulk', priority => 1, max_attempts => 3)
                """
            )
            #expect(ids.count == 5000)
            let stored = try await database.query("select id, payload::text::int8 from breakwater.job")
            let payloads = Dictionary(uniqueKeysWithValues: try stored.map { (try $0[0].int64(), try $0[1].int64()) })
            #expect(ids.map { payloads[$0] } == (1...5000).map { Int64($0) })
            // The jobs run in that order, too.
            let ordered = try await database.numbers(
                "select payload::text::int8 from breakwater.job order by position"
            )
            #expect(ordered == (1...5000).map { Int64($0) })
        }
    }

    @Test("a unique key that is taken answers with the job that has it, and adds nothing")
    func uniqueKey() async throws {
        try await withTestDatabase { database in
            let enqueue = "select breakwater.enqueue('k', unique_key => 'only')"
            let first = try await database.number(enqueue)
            #expect(try await database.number(enqueue) == first)
            #expect(try await database.number("select breakwater.enqueue('other', unique_key => 'only')") != first)
            let worker = try await HandWorker(database)
            // The key stays taken while the job runs, until it has ended.
            let jobs = try await worker.claim()
            #expect(try await database.number(enqueue) == first)
            try await worker.settle(jobs)
            #expect(try await database.number(enqueue) != first)
        }
    }

    @Test("the same unique key from many sessions at once makes one job")
    func uniqueKeyRace() async throws {
        try await withTestDatabase { database in
            let ids = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        let connection = try await database.connect()
                        let answer = try await connection.query("select breakwater.enqueue('k', unique_key => 'u')")
                        await connection.close()
                        return try answer[0][0].int()
                    }
                }
                return try await group.reduce(into: Set<Int>()) { $0.insert($1) }
            }
            #expect(ids.count == 1)
            #expect(try await database.count("job") == 1)
        }
    }

    @Test("is refused with a message that says what is wrong")
    func refusals() async throws {
        try await withTestDatabase { database in
            for (call, state, message) in [
                ("'k', priority => 10", "22023", "priority 10 is not 0 to 9"),
                ("'k', priority => -1", "22023", "priority -1 is not 0 to 9"),
                ("'k', priority => null", "22023", "priority NULL is not 0 to 9"),
                ("''", "22023", "the kind has 0 bytes"),
                ("null", "22023", "the kind has no bytes"),
                ("repeat('x', 10000)", "22023", "the kind has 10000 bytes"),
                ("'k', queue => ''", "22023", "the queue's name has 0 bytes"),
                ("'k', queue => repeat('é', 150)", "22023", "the queue's name has 300 bytes"),
                ("'k', null", "22004", "the payload is NULL"),
                ("'k', max_attempts => 0", "22023", "max_attempts 0 is not at least 1"),
                ("'k', unique_key => ''", "23514", "unique_key_is_1_to_500_bytes"),
                ("'k', unique_key => repeat('x', 501)", "23514", "unique_key_is_1_to_500_bytes"),
                ("'k', '{oops'", "22P02", "invalid input syntax for type json"),
            ] {
                let error = await postgresError { try await database.query("select breakwater.enqueue(\(call))") }
                #expect(error?.sqlState == state, "\(call)")
                #expect(error?.message.contains(message) == true, "\(call): \(error as Any)")
            }
            let left = try await database.count("job")
            #expect(left == 0)
        }
    }

    @Test("a plain INSERT is held to the same bounds")
    func insertRefusals() async throws {
        try await withTestDatabase { database in
            for (values, constraint) in [
                ("(kind, priority) values ('k', 10)", "priority_is_0_to_9"),
                ("(kind) values ('')", "kind_is_1_to_200_bytes"),
                ("(kind) values (repeat('x', 10000))", "kind_is_1_to_200_bytes"),
                ("(kind, max_attempts) values ('k', 0)", "max_attempts_is_positive"),
            ] {
                let error = await postgresError { try await database.query("insert into breakwater.job \(values)") }
                #expect(error?.constraint == constraint)
            }
            let null = await postgresError {
                try await database.query("insert into breakwater.job (kind, payload) values ('k', null)")
            }
            #expect(null?.sqlState == "23502")
        }
    }

    @Test("one NULL among many payloads is refused by its place, and none is enqueued")
    func nullAmongMany() async throws {
        try await withTestDatabase { database in
            let error = await postgresError {
                try await database.query("select breakwater.enqueue_many('k', array['{}', null, '{}']::jsonb[])")
            }
            #expect(error?.message == "payload 2 is NULL")
            let left = try await database.count("job")
            #expect(left == 0)
        }
    }

    @Test("names with quotes, semicolons, wildcards and format strings are plain names")
    func strangeNames() async throws {
        try await withTestDatabase { database in
            let names = [
                "'; drop table breakwater.job; --", #"a"b\c"#, "%s%n%I%L", "{1,2}", "$1", "ключ.日本", "a b c d", "%",
                "_",
            ]
            let ran = Notes()
            let handler = ClosureHandler { job, _ in
                ran.add(job.kind)
                return .succeeded()
            }
            for name in names {
                try await database.query(
                    "select breakwater.enqueue($1, to_jsonb($1), queue => $1, unique_key => $1)",
                    [.text(name)]
                )
            }
            try await database.withWorker(
                names.map { HandlerRegistration(kind: $0, plugin: handler) },
                configure: { $0.queues = names }
            ) {
                try await waitUntil("all run") { try await database.count("job") == 0 }
                for name in names {
                    for call in ["open_circuit", "reset_circuit", "pause_kind", "pause_queue"] {
                        try await database.query("select breakwater.\(call)($1, $1)", [.text(name)])
                    }
                    for call in ["resume_kind", "resume_queue"] {
                        try await database.query("select breakwater.\(call)($1)", [.text(name)])
                    }
                }
            }
            #expect(ran.all.sorted() == names.sorted())
        }
    }

    @Test("payloads of 10 MB and arrays of 100,000 elements go through whole")
    func largePayloads() async throws {
        try await withTestDatabase { database in
            let sizes = Notes()
            let handler = ClosureHandler { job, _ in
                sizes.add("\(job.payload.utf8.count)")
                return .succeeded()
            }
            try await database.query("select breakwater.enqueue('k', to_jsonb(repeat('x', 10000000)))")
            try await database.query(
                "select breakwater.enqueue('k', (select jsonb_agg(7) from generate_series(1, 100000)))"
            )
            try await database.withWorker([HandlerRegistration(kind: "k", plugin: handler)]) {
                try await waitUntil("both run") { try await database.count("job") == 0 }
            }
            #expect(sizes.all.sorted() == ["10000002", "300000"])
        }
    }

    @Test("100,000 jobs in one call are all enqueued")
    func hundredThousand() async throws {
        try await withTestDatabase { database in
            let count = try await database.number(
                """
                select count(*) from breakwater.enqueue_many('k', array(select '{}'::jsonb from generate_series(1, 100000)))
                """
            )
            #expect(count == 100_000)
            #expect(try await database.count("job") == 100_000)
        }
    }
}

@Suite("The order of jobs", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct OrderTests {
    @Test("priority 0 runs before 9, and equals run first come, first served")
    func priorities() async throws {
        try await withTestDatabase { database in
            for priority in [9, 0, 5, 9, 0, 3, 5] {
                try await database.query("select breakwater.enqueue('k', priority => \(priority))")
            }
            let order = Notes()
            let handler = ClosureHandler { job, _ in
                order.add("\(job.priority):\(job.id)")
                return .succeeded()
            }
            try await database.withWorker(
                [HandlerRegistration(kind: "k", plugin: handler)],
                configure: { $0.concurrency = 1 }
            ) {
                try await waitUntil("all run") { try await database.count("job") == 0 }
            }
            #expect(order.all == ["0:2", "0:5", "3:6", "5:3", "5:7", "9:1", "9:4"])
        }
    }

    @Test("a job for later waits for its time and then runs; one for the past runs now")
    func runAt() async throws {
        try await withTestDatabase { database in
            let ran = Notes()
            let handler = ClosureHandler { job, _ in
                ran.add(job.payload)
                return .succeeded()
            }
            try await database.query("select breakwater.enqueue('k', '1', run_at => now() + interval '6 s')")
            try await database.query("select breakwater.enqueue('k', '2', run_at => now() - interval '1 day')")
            try await database.query(
                """
                insert into breakwater.job (kind, payload, run_at)
                values ('k', '3', now() - interval '1 s'), ('k', '4', now() + interval '1 hour')
                """
            )
            let state = try await database.text("select state from breakwater.job_status where payload = '4'")
            #expect(state == "scheduled")
            let due = try await database.text("select run_at::text from breakwater.job where payload = '1'")
            try await database.withWorker([HandlerRegistration(kind: "k", plugin: handler)]) {
                try await waitUntil("the first two run") { ran.all.count >= 2 }
                #expect(Set(ran.all.prefix(2)) == ["2", "3"])
                try await waitUntil("the third runs") { ran.all.count == 3 }
                let isTime = try await database.query("select clock_timestamp() >= $1::text::timestamptz", [.text(due)])
                #expect(try isTime[0][0].bool())
                try await waitUntil("they are settled") { try await database.count("job") == 1 }
                #expect(try await database.query("select breakwater.run_now(id) from breakwater.job")[0][0].bool())
                try await waitUntil("the hurried one runs") { try await database.count("job") == 0 }
            }
            #expect(ran.counts == ["1": 1, "2": 1, "3": 1, "4": 1])
        }
    }

    @Test(
        "refuses, however a job gets in, a kind or a queue that no configuration can name",
        arguments: ["a\nb", "\u{1B}[2Jx", "a\u{7F}", "a\u{85}b", "\u{202E}evil", "a\u{2028}b", "\u{FEFF}k"]
    )
    func controlCharacters(name: String) async throws {
        try await withTestDatabase { database in
            for (sql, state) in [
                ("select breakwater.enqueue($1)", "22023"), ("select breakwater.enqueue('k', queue => $1)", "22023"),
                ("select breakwater.enqueue_many($1, array['{}']::jsonb[])", "22023"),
                ("select breakwater.enqueue_lines(array[jsonb_build_object('kind', $1::text)])", "22023"),
                ("select breakwater.enqueue_lines(array[jsonb_build_object('kind', 'k', 'queue', $1::text)])", "22023"),
                ("insert into breakwater.job (kind) values ($1)", "23514"),
                ("insert into breakwater.job (kind, queue) values ('k', $1)", "23514"),
            ] {
                let error = await postgresError { try await database.query(sql, [.text(name)]) }
                #expect(error?.sqlState == state, "\(sql): \(error as Any)")
                #expect("\(error as Any)".contains("control"), "\(error as Any)")
            }
            try await database.insert()
            let renamed = await postgresError {
                try await database.query("update breakwater.job set kind = $1", [.text(name)])
            }
            #expect(renamed?.constraint == "names_have_no_control_characters")
            #expect(try await database.count("job") == 1)
        }
    }

    @Test("works in a transaction that is prepared, while a worker sleeps, with breakwater.wake off")
    func twoPhaseCommit() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            guard try await database.number("select current_setting('max_prepared_transactions')::int") > 0 else {
                return
            }
            let worker = try await HandWorker(database)
            try await worker.query("select breakwater.sleep($1, '{k}')", [.int8(worker.id)])
            let enqueue = "select breakwater.enqueue('k')"
            _ = try await database.query("begin")
            _ = try await database.query(enqueue)
            let refused = await postgresError { try await database.query("prepare transaction '\(database.name)'") }
            #expect(refused?.sqlState == "0A000", "\(refused as Any)")
            _ = try await database.query("begin")
            _ = try await database.query("set local breakwater.wake = off")
            _ = try await database.query(enqueue)
            _ = try await database.query("insert into breakwater.job (kind) values ('k')")
            _ = try await database.query("prepare transaction '\(database.name)'")
            #expect(try await worker.claim().isEmpty)
            _ = try await database.query("commit prepared '\(database.name)'")
            #expect(try await worker.claim().count == 2)
        }
    }

    @Test("jobs held until infinity, or due since -infinity, hinder no chore and no view")
    func infinity() async throws {
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind, run_at) values ('k', 'infinity')")
            let worker = try await HandWorker(database)
            #expect(try await worker.maintain().leads)
            try await database.query("insert into breakwater.job (kind, run_at) values ('k', '-infinity')")
            #expect(try await worker.maintain().promoted == 1)
            #expect(try await database.count("depth") == 1)
            #expect(try await database.query("select * from breakwater.depth, breakwater.job_status").count == 2)
            #expect(try await worker.claim().count == 1)
        }
    }
}
