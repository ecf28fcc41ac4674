import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

@Suite("Hostile input through SQL and Swift handlers", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct HostileInputTests {
    /// Enqueues a job, and returns the refusal if there is one.
    private func enqueue(
        _ database: TestDatabase,
        kind: String = "k",
        payload: String = "{}",
        queue: String = "default",
        uniqueKey: String? = nil,
        traceparent: String? = nil
    ) async -> PostgresError? {
        await postgresError {
            try await database.query(
                "select breakwater.enqueue($1, $2, $3, unique_key => $4, traceparent => $5)",
                [.text(kind), .jsonb(payload), .text(queue), .text(uniqueKey), .text(traceparent)]
            )
        }
    }

    @Test("as kinds, queues, keys and traces: stored as it is and run, or refused with what is wrong")
    func names() async throws {
        try await withTestDatabase { database in
            for sample in HostileCorpus.texts {
                let text = sample.value
                let isName = HostileCorpus.names.contains { $0.name == sample.name }
                let refusals = [
                    (await enqueue(database, kind: text), isName), (await enqueue(database, queue: text), isName),
                    (
                        await enqueue(database, uniqueKey: text),
                        (1...500).contains(text.utf8.count) && !text.utf8.contains(0)
                    ),
                    (await enqueue(database, traceparent: text), text.utf8.count <= 200 && !text.utf8.contains(0)),
                ]
                for (refusal, isFine) in refusals {
                    #expect((refusal == nil) == isFine, "\(sample): \(refusal.map { "\($0)" } ?? "taken")")
                    guard let refusal else { continue }
                    let isClear = refusal.code == .invalidParameter || ["22023", "23514"].contains(refusal.sqlState)
                    #expect(isClear, "\(sample): \(refusal)")
                }
            }
            let kinds = Set(HostileCorpus.names.map(\.value)).union(["k"])
            let queues = HostileCorpus.names.map(\.value) + ["default"]
            let stored = try await database.texts("select distinct kind from breakwater.job")
            #expect(Set(stored.map { Data($0.utf8) }) == Set(kinds.map { Data($0.utf8) }))

            let notes = Notes()
            let handlers = kinds.map { kind in
                HandlerRegistration(
                    kind: kind,
                    plugin: ClosureHandler { job, _ in
                        notes.add(job.kind)
                        return .succeeded()
                    }
                )
            }
            try await database.withWorker(handlers, configure: { $0.queues = Array(Set(queues)) }) {
                try await waitUntil("all have run") { try await database.count("job") == 0 }
            }
            #expect(Set(notes.all) == kinds)
        }
    }

    @Test("as payloads: they arrive as they are, or are refused before they are stored")
    func payloads() async throws {
        try await withTestDatabase { database in
            for sample in HostileCorpus.refusedPayloads {
                let refusal = await enqueue(database, payload: sample.value)
                let isClear =
                    refusal?.code == .invalidParameter
                    || ["22P02", "22P05", "22003", "54001"].contains(refusal?.sqlState)
                #expect(isClear, "\(sample): \(refusal.map { String("\($0)".prefix(300)) } ?? "taken")")
            }
            #expect(try await database.count("job") == 0)
            for sample in HostileCorpus.payloads {
                let refusal = await enqueue(database, payload: sample.value)
                #expect(refusal == nil, "\(sample): \(refusal.map { String("\($0)".prefix(300)) } ?? "")")
            }
            // Each handler returns the payload that it got, and the database finds it unchanged.
            try await database.query("create table sent as select id, payload from breakwater.job")
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { job, _ in .succeeded(result: job.payload) }
            )
            var keeping = handler
            keeping.settings.keepResults = .seconds(3600)
            try await database.withWorker([keeping]) {
                try await waitUntil("all have run") { try await database.count("job") == 0 }
            }
            let same = try await database.number(
                "select count(*) from sent s join breakwater.result r on r.id = s.id and r.result = s.payload"
            )
            #expect(same == HostileCorpus.payloads.count)
        }
    }

    @Test("as failures, results and delays: each job ends as its outcome says, and the worker goes on")
    func outcomes() async throws {
        try await withTestDatabase { database in
            let texts = HostileCorpus.outputs.map { String(decoding: $0.value.prefix(1 << 20), as: UTF8.self) }
            let delays: [Duration] = [
                .zero, .seconds(-1), .seconds(Int64.max), .seconds(Int64.min), .nanoseconds(1),
                .seconds(1_000_000_000_000),
            ]
            let failing = ClosureHandler { job, _ in
                let number = Int(job.payload) ?? 0
                switch job.kind {
                case "discards": return .discarded(JobFailure(texts[number], texts[number]))
                case "throws": throw JobFailure(texts[number], texts[number])
                case "succeeds": return .succeeded(result: texts[number])
                default: return .snoozed(delays[number])
                }
            }
            let handlers = ["discards", "throws", "succeeds", "snoozes"].map { kind in
                var registration = HandlerRegistration(kind: kind, plugin: failing)
                registration.settings.keepResults = .seconds(3600)
                registration.settings.retry.maxAttempts = 1
                registration.settings.circuit.isEnabled = false
                return registration
            }
            for kind in ["discards", "throws", "succeeds"] {
                try await database.query(
                    "insert into breakwater.job (kind, payload) select $1, to_jsonb(n) from generate_series(0, $2 - 1) n",
                    [.text(kind), .int4(Int32(texts.count))]
                )
            }
            for number in delays.indices where ![0, 1, 4].contains(number) {
                try await database.query(
                    "insert into breakwater.job (kind, payload) values ('snoozes', $1)",
                    [.jsonb("\(number)")]
                )
            }
            try await database.withWorker(handlers) {
                try await waitUntil("all have ended or sleep for long", deadline: .seconds(120)) {
                    try await database.number(
                        """
                        select count(*) from breakwater.job
                         where kind <> 'snoozes' or run_at is null or run_at < now() + interval '1 year'
                        """
                    ) == 0
                }
            }
            #expect(try await database.count("dead_letter") >= 2 * texts.count)
            let longest = try await database.number(
                "select max(octet_length(e ->> 'message')) from breakwater.dead_letter, jsonb_array_elements(errors) e"
            )
            #expect(longest <= 4 * 8192)
        }
    }

    @Test("as ids near the ends of 32 and 64 bits: claimed, settled, retried, redriven")
    func ids() async throws {
        try await withTestDatabase { database in
            for id in HostileCorpus.ids {
                try await database.query(
                    "insert into breakwater.job (id, kind) overriding system value values ($1, 'fails')",
                    [.int8(id)]
                )
            }
            // The other sequences are as high.
            try await database.connection.script(
                """
                select setval('breakwater.job_position', 9223372036854775807 - 1000);
                select setval('breakwater.lease', 9223372036854775807 - 1000);
                select setval('breakwater.worker_id_seq', 9223372036854775807 - 10);
                insert into breakwater.job (kind) values ('k'), ('k');
                """
            )
            var failing = HandlerRegistration(
                kind: "fails",
                plugin: ClosureHandler { job, _ in
                    job.attempt == 1 ? .failed(JobFailure("once", "no")) : .discarded(JobFailure("twice", "no"))
                }
            )
            failing.settings.retry.base = .milliseconds(10)
            let handlers = [failing, HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })]
            try await database.withWorker(handlers) {
                try await waitUntil("all have ended") { try await database.count("job") == 0 }
            }
            #expect(
                try await database.numbers("select id from breakwater.dead_letter order by id") == HostileCorpus.ids
            )
            #expect(try await database.number("select breakwater.redrive('fails')") == HostileCorpus.ids.count)
            let worker = try await HandWorker(database, ["fails"])
            #expect(try await worker.claim().map(\.id).sorted() == HostileCorpus.ids)
        }
    }

    @Test("as a job's history that is no list: the job is settled all the same")
    func brokenHistory() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            for history in ["\"text\"", "{}", "7", "null"] {
                try await database.query(
                    "insert into breakwater.job (kind, errors) values ('k', $1)",
                    [.jsonb(history)]
                )
            }
            let jobs = try await worker.claim()
            #expect(try await worker.settle(jobs, .failed()).settled == 4)
            #expect(try await database.number("select count(*) from breakwater.job_status") == 4)
            #expect(
                try await database.texts("select errors -> 0 ->> 'name' from breakwater.job")
                    == Array(repeating: "broken", count: 4)
            )
        }
    }
}
