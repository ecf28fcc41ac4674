import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("What runs report", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ProgressTests {
    private struct Page: Codable, Equatable { var page: Int }

    private func report(
        _ job: Job,
        version: Int64 = 1,
        _ fraction: Double? = nil,
        _ note: String? = nil,
        checkpoint: String? = nil
    ) -> RunReport {
        RunReport(run: RunKey(job), version: version, fraction: fraction, note: note, checkpoint: checkpoint)
    }

    private func stored(_ database: TestDatabase) async throws -> [String] {
        try await database.texts(
            """
            select concat_ws('|', job, coalesce(fraction::text, '-'), coalesce(note, '-'), coalesce(checkpoint::text, '-'))
              from breakwater.progress order by job
            """
        )
    }

    @Test("is stored with the heartbeat, and shown while the job runs")
    func heartbeat() async throws {
        try await withTestDatabase { database in
            let door = Door()
            try await database.insert()
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { _, context in
                    for page in 1...100 { context.report(fraction: Double(page) / 200, note: "page \(page)") }
                    try await door.pass()
                    return .succeeded()
                }
            )
            try await database.withWorker([handler]) {
                try await waitUntil("it is stored") { try await database.count("progress") == 1 }
                let shown = try await database.query(
                    "select fraction, note, cancelled_at from breakwater.running_job where id = 1"
                )
                #expect(try shown[0][0].double() == 0.5)
                #expect(try shown[0][1].string() == "page 100")
                #expect(shown[0][2].isNull)
                #expect(try await database.text("select note from breakwater.job_status where id = 1") == "page 100")
                // The leader deletes the row once the job has succeeded.
                door.open()
                try await waitUntil("it is deleted") { try await database.count("progress") == 0 }
            }
        }
    }

    @Test("a checkpoint that was saved just before a failure reaches the next attempt")
    func nextAttempt() async throws {
        try await withTestDatabase { database in
            try await database.insert()
            let pages = Notes()
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { job, context in
                    let last = try context.checkpoint(as: Page.self)
                    pages.add("\(last?.page ?? 0)")
                    if job.attempt == 3 { return .succeeded() }
                    if job.attempt == 1 { try context.saveCheckpoint(Page(page: 7)) }
                    return .failed(JobFailure("half", "way"))
                },
                settings: HandlerSettings().with { $0.retry.base = .milliseconds(20) }
            )
            try await database.withWorker([handler]) {
                try await waitUntil("it ends") { try await database.count("job") == 0 }
            }
            #expect(pages.all == ["0", "7", "7"])
        }
    }

    @Test("a checkpoint outlives a lost worker, a death and a redrive")
    func survives() async throws {
        try await withTestDatabase { database in
            let (lost, worker) = (try await HandWorker(database), try await HandWorker(database))
            try await database.insert(1, maxAttempts: 1)
            let first = try await lost.claim()
            #expect(first.map(\.checkpoint) == [nil])
            let report = report(first[0], 0.5, "half", checkpoint: #"{"page": 1e3}"#)
            try await lost.call(ReportProgress(worker: lost.id, reports: [report]))
            try await database.query(
                "update breakwater.worker set beat_at = now() - interval '1 hour' where id = \(lost.id)"
            )
            #expect(try await worker.maintain().rescued == 1)
            let second = try await worker.claim()
            #expect(second.map(\.checkpoint) == [#"{"page": 1e3}"#])
            // The fraction and the note were those of the lost run.
            #expect(try await database.number("select count(fraction) from breakwater.running_job") == 0)
            try await worker.settle(second, .failed())
            #expect(try await database.count("dead_letter") == 1)
            try await worker.maintain()
            #expect(try await stored(database) == [#"1|0.5|half|{"page": 1e3}"#])
            try await database.query("select breakwater.redrive(1)")
            let third = try await worker.claim()
            #expect(third.map(\.checkpoint) == [#"{"page": 1e3}"#])
            // Once its dead letter is purged, nothing is kept.
            try await worker.settle(third, .discarded)
            try await database.query("select breakwater.purge(1)")
            try await worker.maintain()
            #expect(try await database.count("progress") == 0)
        }
    }

    @Test("a suspect gets its checkpoint as well")
    func suspect() async throws {
        try await withTestDatabase { database in
            try await database.insert()
            let alive = try await HandWorker(database)
            for _ in 1...2 {
                let lost = try await HandWorker(database)
                let jobs = try await lost.claim()
                try await lost.call(ReportProgress(worker: lost.id, reports: [report(jobs[0], checkpoint: "[1]")]))
                try await database.query(
                    "update breakwater.worker set beat_at = now() - interval '1 hour' where id = \(lost.id)"
                )
                try await alive.maintain()
            }
            #expect(try await alive.claimSuspects().map(\.checkpoint) == ["[1]"])
        }
    }

    @Test("changes nothing if it is older than what is stored, or of a run that lost its job")
    func fence() async throws {
        try await withTestDatabase { database in
            let (zombie, worker) = (try await HandWorker(database), try await HandWorker(database))
            try await database.insert()
            let old = try await zombie.claim()[0]
            func send(_ reports: [RunReport], _ worker: HandWorker) async throws {
                try await worker.call(ReportProgress(worker: worker.id, reports: reports))
            }
            try await send([report(old, version: 2, 0.2, checkpoint: "2")], zombie)
            try await send([report(old, version: 1, 0.1, checkpoint: "1")], zombie)
            #expect(try await stored(database) == ["1|0.2|-|2"])
            // A report without a checkpoint keeps the last one.
            try await send([report(old, version: 3, 0.3, "on")], zombie)
            #expect(try await stored(database) == ["1|0.3|on|2"])
            // Another worker's number is not this run's.
            try await send([report(old, version: 4, 0.4)], worker)
            try await zombie.call(Leave(worker: zombie.id))
            let new = try await worker.claim()[0]
            #expect(new.checkpoint == "2")
            try await send([report(old, version: 9, 0.9, checkpoint: "9")], zombie)
            #expect(try await stored(database) == ["1|0.3|on|2"])
            try await send([report(new, 0.5)], worker)
            #expect(try await stored(database) == ["1|0.5|-|2"])
        }
    }

    @Test("is pruned, portion by portion, once its job and dead letter are gone")
    func prune() async throws {
        try await withTestDatabase { database in
            try await database.insert(5)
            try await database.query(
                "insert into breakwater.progress (job, kind, lease, version) select n, 'k', 1, 1 from generate_series(1, 50) n"
            )
            for _ in 1...100 { try await database.query("select breakwater.prune_progress(10)") }
            try await database.query("select breakwater.prune_progress(100)")
            #expect(try await database.numbers("select job from breakwater.progress order by job") == [1, 2, 3, 4, 5])
        }
    }
}

extension HandlerSettings {
    fileprivate func with(_ change: (inout HandlerSettings) -> Void) -> HandlerSettings {
        var settings = self
        change(&settings)
        return settings
    }
}

@Suite("The reports of a worker's runs")
struct RunReportTests {
    private let run = RunKey(id: 1, lease: 2)

    @Test("are stored once for each change, however many there were since the last heartbeat")
    func changes() throws {
        let board = ProgressBoard()
        let reports = RunReports(of: run, to: board)
        #expect(board.unstored { [run] }.isEmpty)
        for step in 1...1000 { reports.progress(fraction: Double(step) / 1000, note: "step \(step)") }
        try reports.checkpoint("[1]")
        let first = board.unstored { [run] }
        #expect(first.count == 1)
        #expect(first[0].fraction == 1 && first[0].note == "step 1000" && first[0].checkpoint == "[1]")
        // What changes while it is being stored is stored with the next heartbeat.
        reports.progress(fraction: nil, note: "more")
        board.stored(first)
        let second = board.unstored { [run] }
        #expect(second.map(\.note) == ["more"] && second.map(\.checkpoint) == [nil])
        #expect(second[0].version > first[0].version)
        board.stored(second)
        reports.progress(fraction: 1, note: "more")
        #expect(board.unstored { [run] }.isEmpty)
        #expect(board.end(run) == nil)
    }

    @Test("have what was not stored when the run ends, and nothing of runs that have ended")
    func ends() throws {
        let board = ProgressBoard()
        let reports = RunReports(of: run, to: board)
        try reports.checkpoint("[2]")
        #expect(board.end(run)?.checkpoint == "[2]")
        #expect(board.end(run) == nil)
        // A task of the handler goes on.
        reports.progress(fraction: 0.5, note: nil)
        #expect(board.unstored { [] }.isEmpty)
        #expect(board.latest(of: run) == RunReports.Values())
    }

    @Test("keep fractions, notes and checkpoints within their limits")
    func limits() throws {
        let reports = RunReports()
        for (given, kept) in [(-1.0, 0.0), (0.25, 0.25), (7, 1), (.infinity, 1)] {
            reports.progress(fraction: given, note: nil)
            #expect(reports.latest.fraction == kept)
        }
        reports.progress(fraction: .nan, note: "a\nb\u{0}c\u{202E}d")
        #expect(reports.latest == .init(fraction: 1, note: "a b c d"))
        // A flag is one character of two scalars.
        reports.progress(fraction: nil, note: String(repeating: "x", count: 199) + "🇩🇪")
        #expect(reports.latest.note == String(repeating: "x", count: 199))
        reports.progress(fraction: nil, note: "e" + String(repeating: "\u{301}", count: 5000))
        #expect(reports.latest.note?.unicodeScalars.count == 200)

        try reports.checkpoint("\"" + String(repeating: "x", count: 65_534) + "\"")
        #expect(
            throws: JobFailure(
                "checkpoint.tooLarge",
                "a checkpoint has 65537 bytes of JSON, and at most 65536 are kept"
            )
        ) {
            try reports.checkpoint("\"" + String(repeating: "x", count: 65_535) + "\"")
        }
        for text in ["", "{", "1 2", String(repeating: "[", count: 600) + String(repeating: "]", count: 600)] {
            #expect(throws: JobFailure.self) { try reports.checkpoint(text) }
        }
        #expect(reports.latest.checkpoint?.utf8.count == 65_536)
        try reports.checkpoint(#"{"a": "x\u0000y"}"#)
        #expect(reports.latest.checkpoint == #"{"a": "xy"}"#)
    }
}
