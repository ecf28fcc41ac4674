import BreakwaterTesting
import Foundation
import Synchronization
import Testing

@testable import Breakwater

/// A kind with a payload that has everything a text of SQL could break.
private struct Greeting: Codable, Sendable, Equatable {
    var to: String
    var count = 1
}

extension JobKind where Payload == Greeting {
    fileprivate static var greet: Self { "client.greet" }
}

@Suite("A client", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ClientTests {
    private func withClient<Value>(
        connections: Int = 2,
        _ body: (BreakwaterClient, TestDatabase) async throws -> Value
    ) async throws {
        try await withTestDatabase { database in
            let client = try BreakwaterClient(
                database.options,
                connections: connections,
                logger: RecordedLog().logger()
            )
            do { _ = try await body(client, database) } catch {
                await client.close()
                throw error
            }
            await client.close()
        }
    }

    private static let awkward = [
        "plain", "", "two\nlines", #"a "quote" and a \ backslash"#, "{curly, commas}", "NULL", "ünïcode 🚀", "$1 ' ; --",
    ].map { Greeting(to: $0) }

    @Test("and a handler share a kind: what is enqueued is what is run, and its result is encoded")
    func typedKind() async throws {
        try await withClient { client, database in
            let seen = Mutex<[Greeting]>([])
            var settings = HandlerSettings()
            settings.keepResults = .seconds(3600)
            let registration = HandlerRegistration(kind: .greet, settings: settings) { payload, _ in
                seen.withLock { $0.append(payload) }
                return try .succeeded(payload)
            }
            let id = try await client.enqueue(.greet, Self.awkward[3])
            let ids = try await client.enqueueMany(.greet, Self.awkward)
            #expect(ids == ids.sorted() && ids.count == Self.awkward.count && !ids.contains(id))
            try await database.withWorker([registration]) {
                try await waitUntil("the jobs end") { try await database.count("job") == 0 }
            }
            let sorted = { (all: [Greeting]) in all.map(\.to).sorted() }
            #expect(sorted(seen.withLock { $0 }) == sorted(Self.awkward + [Self.awkward[3]]))
            for (id, payload) in zip(ids, Self.awkward) {
                let result = try await database.text("select result::text from breakwater.result where id = \(id)")
                #expect(try JSONDecoder().decode(Greeting.self, from: Data(result.utf8)) == payload)
            }
        }
    }

    @Test("passes on every setting of a job")
    func settings() async throws {
        try await withClient { client, database in
            let due = Date(timeIntervalSince1970: 4_000_000_000.25)
            let first = try await client.enqueue(
                .greet,
                Greeting(to: "a"),
                queue: "q",
                priority: 2,
                runAt: due,
                maxAttempts: 7,
                uniqueKey: "u'\\"
            )
            #expect(try await client.enqueue(.greet, Greeting(to: "b"), uniqueKey: "u'\\") == first)
            let row = "select concat_ws(' ', queue, priority, max_attempts, unique_key, extract(epoch from run_at)) "
            #expect(try await database.text(row + "from breakwater.job") == "q 2 7 u'\\ 4000000000.250000")
            let after = try await client.enqueue(.greet, Greeting(to: "c"), after: [first], onDead: .cancel)
            #expect(try await client.job(after)?.state == "dependent")
            #expect(try await client.cancelJob(first))
            try await waitUntil("the one after it is cancelled") {
                try await database.query("select breakwater.check_dependants(100)")
                return try await client.deadLetters().map(\.id).contains(after)
            }
            #expect(try await client.enqueueMany(.greet, [], queue: "q") == [])
            let many = try await client.enqueueMany(.greet, Self.awkward, queue: "q2", priority: 9, maxAttempts: 3)
            #expect(
                try await database.number(
                    "select count(*) from breakwater.job where queue = 'q2' and priority = 9 and max_attempts = 3"
                ) == many.count
            )
        }
    }

    @Test("says what is wrong with a setting, in the database's words")
    func refusals() async throws {
        try await withClient { client, database in
            let priority = await #expect(throws: PostgresError.self) {
                try await client.enqueue(.greet, Greeting(to: "a"), priority: 10)
            }
            #expect(priority?.sqlState == "22023" && priority?.message.contains("priority") == true)
            await #expect(throws: PostgresError.self) { try await client.enqueue(kind: "k", payload: "{") }
            await #expect(throws: PostgresError.self) { try await client.pause(.kind("k"), reason: "") }
            #expect(try await database.count("job") == 0)
            // The session is as good as before.
            try await client.enqueue(.greet, Greeting(to: "a"))
            #expect(throws: BreakwaterError.self) {
                try BreakwaterClient("postgresql:///x", connections: 0, logger: RecordedLog().logger())
            }
            let unreadable = #expect(throws: BreakwaterError.self) {
                try BreakwaterClient("postgresql://a:b@c:port/", logger: RecordedLog().logger())
            }
            #expect(unreadable?.code == .invalidConfiguration)
        }
    }

    @Test("makes batches that grow, nest and end")
    func batches() async throws {
        try await withClient { client, database in
            let outer = try await client.makeBatch(callback: .greet, Greeting(to: "outer"))
            let inner = try await client.makeBatch(callback: .greet, Greeting(to: "inner"), isOpen: true, batch: outer)
            let members = try await client.enqueueMany(.greet, Self.awkward, batch: inner)
            let late = try await client.enqueue(.greet, Greeting(to: "late"))
            #expect(try await client.add([late], toBatch: inner) == 1)
            #expect(try await client.add([late], toBatch: inner) == 0)
            #expect(try await client.closeBatch(inner))
            #expect(try await !client.closeBatch(inner))
            let counts = "select jobs from breakwater.batch_status where id = $1"
            #expect(try await database.number(counts, [.int8(inner)]) == members.count + 1)
            #expect(try await database.number(counts, [.int8(outer)]) == 1)
        }
    }

    @Test("sets, pauses, resumes, runs and removes schedules")
    func schedules() async throws {
        try await withClient { client, database in
            var schedule = Schedule(name: "nightly", .cron("0 3 * * *"), kind: "client.greet")
            schedule.timeZone = "Europe/Berlin"
            schedule.payload = #"{"to": "ada's"}"#
            schedule.missed = .all
            schedule.overlap = .skip
            let next = try await client.set(schedule, reason: "new")
            #expect(next > Date.now && next < Date.now + 2 * 86_400)
            let row = """
                select concat_ws(' ', cron, time_zone, missed, overlap, payload ->> 'to') from breakwater.schedule
                """
            #expect(try await database.text(row) == "0 3 * * * Europe/Berlin all skip ada's")
            try await client.pauseSchedule("nightly", reason: "holiday")
            #expect(try await client.resumeSchedule("nightly"))
            #expect(try await !client.resumeSchedule("nightly"))
            let job = try await client.runSchedule("nightly")
            #expect(try await client.job(job)?.payload.contains("ada's") == true)
            #expect(try await client.removeSchedule("nightly"))
            #expect(try await !client.removeSchedule("nightly"))
            var every = Schedule(name: "often", .every(.seconds(90)), kind: "client.greet")
            every.priority = 1
            try await client.set(every)
            #expect(try await database.text("select every::text from breakwater.schedule") == "00:01:30")
        }
    }

    @Test("shows, redrives and purges dead letters")
    func deadLetters() async throws {
        try await withClient { client, _ in
            let ids = try await client.enqueueMany(.greet, Self.awkward)
            for id in ids { #expect(try await client.cancelJob(id, reason: "test")) }
            #expect(try await !client.cancelJob(-1))
            let letters = try await client.deadLetters(kind: "client.greet", reason: "cancelled")
            #expect(Set(letters.map(\.id)) == Set(ids))
            #expect(try await client.deadLetters(limit: 3).count == 3)
            #expect(try await client.deadLetters(kind: "another") == [])
            #expect(try await client.redrive(ids[0], payload: Greeting(to: "other"), reason: "mended"))
            #expect(try await client.job(ids[0])?.payload.contains("other") == true)
            #expect(try await !client.redrive(ids[0]))
            #expect(try await client.purge(ids[1]))
            #expect(try await client.redriveAll(kind: "client.greet", limit: 2) == 2)
            #expect(try await client.redriveAll(kind: "client.greet", diedOf: "poison") == 0)
            #expect(try await client.redriveAll(kind: "client.greet") == ids.count - 4)
            #expect(try await client.deadLetters() == [])
            let later = try await client.enqueue(.greet, Greeting(to: "later"), runAt: Date.now + 86_400)
            #expect(try await client.runJobNow(later))
            #expect(try await !client.runJobNow(later))
        }
    }

    @Test("shows and overrides circuits")
    func circuits() async throws {
        try await withClient { client, database in
            let handler = HandlerRegistration(kind: .greet) { _, _ in .succeeded() }
            try await database.withWorker([handler]) {
                try await waitUntil("the worker has registered its circuit") {
                    try await client.circuits(kind: "client.greet").map(\.state) == [.closed]
                }
                let until = Date(timeIntervalSince1970: 4_000_000_000)
                try await client.openCircuit("client.greet", reason: "the mail server moves", until: until)
                let job = try await client.enqueue(.greet, Greeting(to: "a"))
                let open = try await client.circuits()[0]
                #expect(open.state == .open && open.override == .open && open.overrideUntil == until)
                #expect(open.reason.contains("the mail server moves"))
                #expect(open.waiting == 1)
                let why = try await client.job(job)?.why
                #expect(why?.contains("the mail server moves") == true, "\(why ?? "the job is gone")")
                try await client.closeCircuit("client.greet", reason: "try")
                let closed = try await client.circuits()[0]
                #expect(closed.override == .closed)
                try await client.resetCircuit("client.greet", reason: "done")
                let reset = try await client.circuits()[0]
                #expect(reset.override == nil)
                let probe = await postgresError {
                    try await client.probeCircuit("client.greet", reason: "it is closed")
                }
                #expect(probe?.message == "the circuit of 'client.greet' is closed: all of its jobs run")
            }
        }
    }

    @Test("pauses and resumes kinds and queues")
    func pauses() async throws {
        try await withClient { client, _ in
            let job = try await client.enqueue(.greet, Greeting(to: "a"))
            try await client.pause(.kind("client.greet"), reason: "quiet")
            #expect(try await client.job(job)?.state == "paused")
            #expect(try await client.resume(.kind("client.greet")))
            #expect(try await !client.resume(.queue("default")))
            try await client.pause(.queue("default"), reason: "quiet")
            #expect(try await client.job(job)?.why.contains("quiet") == true)
            #expect(try await client.resume(.queue("default"), reason: "loud"))
        }
    }
}
