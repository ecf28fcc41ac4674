import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

/// Runs random populations of jobs with one dependency through the real SQL functions, in simulated time. An oracle
/// judges the results: it knows which jobs are bad, when the dependency is down, and which worker is broken.
///
/// The tests print how long a healthy dependency was stopped, and how each outage was handled. `BREAKWATER_SEED`
/// decides which populations there are, and `BREAKWATER_POPULATION_SECONDS` how long each is watched. Without these
/// variables the populations are always the same, so that a change is judged by its own effect: by chance, a sample of
/// good and bad jobs may be as bad as in an outage.
@Suite("Populations of good and bad jobs", .enabled(if: TestDatabase.isAvailable, Comment(rawValue: needsServer)))
struct PopulationTests {
    static let seed =
        ProcessInfo.processInfo.environment["BREAKWATER_SEED"].flatMap { UInt64($0) } ?? 164_281_133
    static let seconds =
        ProcessInfo.processInfo.environment["BREAKWATER_POPULATION_SECONDS"].flatMap { Double($0) } ?? 120

    @Test("without an outage, bad jobs do not stop the good ones", arguments: [0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1])
    func healthy(badShare: Double) async throws {
        let report = try await Population(badShare: badShare, label: 1).run(for: Self.seconds)
        print("population: healthy, \(Int(badShare * 100)) % bad: \(report)")
        // From about the policy's own rate on, the circuit is right to open.
        guard badShare <= 0.3 else { return }
        #expect(report.falseSeconds <= 5, "\(report)")
        #expect(report.goodWaited <= 10, "\(report)")
    }

    @Test("bad jobs at the head of the lane are a false alarm of seconds", arguments: [0, 0.1, 0.3])
    func badHead(badShare: Double) async throws {
        var population = Population(badShare: badShare, label: 2)
        population.badHead = 60
        let report = try await population.run(for: Self.seconds)
        print("population: sixty bad at the head, \(Int(badShare * 100)) % bad: \(report)")
        // With three bad jobs in ten behind them, a sample may be as bad as in an outage.
        if badShare <= 0.1 { #expect(report.falseSeconds <= 8, "\(report)") }
    }

    @Test(
        "an outage is noticed at once, whatever jobs there are, and costs no more attempts than run at once",
        arguments: [0, 0.1, 0.3, 0.8]
    )
    func outage(badShare: Double) async throws {
        var population = Population(badShare: badShare, label: 3)
        // The length is random. A short outage ends within the first checks, and a long one lasts for several open
        // times.
        var generator = SeededGenerator(seed: Self.seed &+ UInt64(badShare * 100))
        let length = Double.random(in: 5...60, using: &generator).rounded()
        population.outage = 30..<(30 + length)
        let report = try await population.run(for: Self.seconds + 60 + length)
        print("population: outage of \(length) s, \(Int(badShare * 100)) % bad: \(report)")
        #expect(try #require(report.noticedAfter) <= 5, "\(report)")
        #expect(report.chargedInOutage <= 45, "\(report)")
        // The circuit closes at the end of an open time. That lasts 15 to 30 s, or 30 to 60 s, or 60 to 120 s if it
        // begins shortly before the outage ends.
        if badShare <= 0.1 { #expect(try #require(report.closedAfter) <= 121, "\(report)") }
    }

    @Test("a worker that is broken is suspended alone", arguments: [0, 0.1, 0.3])
    func brokenWorker(badShare: Double) async throws {
        var population = Population(badShare: badShare, label: 4)
        population.brokenWorker = 1
        let report = try await population.run(for: Self.seconds)
        print("population: broken worker, \(Int(badShare * 100)) % bad: \(report)")
        #expect(report.falseSeconds <= 10, "\(report)")
    }

    @Test("bad keys are stopped, and the kind is not", arguments: [0, 0.1])
    func badKeys(badShare: Double) async throws {
        var population = Population(badShare: badShare, label: 5)
        population.badKeys = 3
        let report = try await population.run(for: Self.seconds)
        print("population: bad keys, \(Int(badShare * 100)) % bad: \(report)")
        #expect(report.falseSeconds <= 5, "\(report)")
        #expect(report.goodWaited <= 10, "\(report)")
    }
}

/// One population: its jobs, its workers and its faults.
private struct Population {
    /// The share of the new jobs that can never succeed.
    var badShare: Double
    /// Makes the seeds of different tests differ.
    var label: UInt64
    /// Bad jobs that wait at the head of the lane before anything else.
    var badHead = 0
    /// When the dependency is down.
    var outage: Range<Double>?
    /// A worker whose calls all fail, from the tenth to the fortieth second.
    var brokenWorker: Int?
    /// The number of keys, of ten, whose jobs all fail.
    var badKeys = 0

    struct Report: CustomStringConvertible {
        /// How long the kind was stopped although the dependency had been up for at least a second.
        var falseSeconds = 0.0
        var openings = 0
        /// The time from the beginning of the outage until no more than probes were admitted.
        var noticedAfter: Double?
        /// The time from the end of the outage until every job was admitted again.
        var closedAfter: Double?
        var chargedInOutage = 0
        /// The longest time that a good job waited while the dependency was always up, in seconds.
        var goodWaited = 0.0
        var done = 0
        var dead = 0

        var description: String {
            let times = [
                "stopped for \(falseSeconds) s by mistake", "\(openings) openings",
                "good jobs waited \(goodWaited) s at most",
                noticedAfter.map { "noticed after \($0) s" }, closedAfter.map { "closed \($0) s after its end" },
                outage, "\(done) done", "\(dead) dead",
            ]
            return times.compactMap { $0 }.joined(separator: ", ")
        }

        private var outage: String? { noticedAfter == nil ? nil : "\(chargedInOutage) attempts charged" }
    }

    private struct SimulatedJob {
        var isBad: Bool
        var enqueuedAt: Double
        var attempts = 0
    }

    private static let step = 0.5
    /// The retry delay of failed jobs, which is never over. The test makes the jobs ready again itself, in its own
    /// time.
    private static let later = Duration.seconds(864_000)
    private static let workers = 3
    private static let concurrency = 6

    func run(for seconds: Double) async throws -> Report {
        try await withTestDatabase { database in try await run(for: seconds, on: database) }
    }

    private func run(for seconds: Double, on database: TestDatabase) async throws -> Report {
        var generator = SeededGenerator(seed: PopulationTests.seed &+ label &* 1000 &+ UInt64(badShare * 100))
        var workers: [HandWorker] = []
        for _ in 0..<Self.workers {
            workers.append(
                try await HandWorker(database) { settings in
                    settings.retry.maxAttempts = 5
                    settings.retry.budget = nil
                    if badKeys > 0 { settings.circuit.key = .path(["host"]) }
                }
            )
        }
        var report = Report()
        var jobs: [Int64: SimulatedJob] = [:]
        var running: [[Job]] = Array(repeating: [], count: Self.workers)
        var retries: [(due: Double, id: Int64)] = []
        var time = 0.0
        var down = false
        while time < seconds {
            time += Self.step
            for worker in workers { worker.setClock(time) }
            down = outage?.contains(time) ?? false
            try await insert(&jobs, at: time, on: database, using: &generator)

            // The jobs that ran through the last step have ended.
            for (number, worker) in workers.enumerated() where !running[number].isEmpty {
                let isBroken = number == brokenWorker && (10..<40).contains(time)
                var runs: [(job: Job, ending: FinishedRun.Ending)] = []
                for job in running[number] {
                    let isBad = jobs[job.id]?.isBad ?? false
                    let fails = isBad || down || isBroken || Double.random(in: 0..<1, using: &generator) < 0.005
                    let failure =
                        isBad ? FinishedRun.Ending.failed("bad", delay: Self.later) : .unavailable(delay: Self.later)
                    runs.append((job, fails ? failure : .succeeded))
                }
                running[number] = []
                let finished = runs.map { FinishedRun($0.job, $0.ending) }
                let claims = Set(runs.map(\.job.lease)).sorted()
                try await worker.call(Settle(worker: worker.id, runs: finished, claims: claims))
                for (job, ending) in runs {
                    jobs[job.id]?.attempts += 1
                    if ending.isSuccess {
                        report.done += 1
                        jobs[job.id] = nil
                    } else {
                        let attempts = Double(jobs[job.id]?.attempts ?? 1)
                        retries.append((time + pow(2, attempts) * .random(in: 0.5...1, using: &generator), job.id))
                        if down, !job.isProbe { report.chargedInOutage += 1 }
                    }
                }
            }
            let due = retries.filter { $0.due <= time }.map(\.id)
            retries.removeAll { $0.due <= time }
            if !due.isEmpty {
                try await database.query(
                    "update breakwater.job set run_at = null where id = any ($1) and parked is null",
                    [.int8Array(due)]
                )
            }
            try await workers[0].maintain()
            for (number, worker) in workers.enumerated() {
                // The database draws probes and open times at random. Its seed comes from the test's seed as well.
                try await worker.query("select setseed($1)", [.float8(.random(in: 0..<1, using: &generator))])
                let claim = Claim(
                    worker: worker.id,
                    lanes: [Lane(queue: "default", kind: "k", priority: 5)],
                    room: [("k", Self.concurrency, Self.concurrency)],
                    total: Self.concurrency,
                    isLate: true
                )
                running[number] = try await worker.call(claim).map(\.job)
                for job in running[number]
                where jobs[job.id]?.isBad == false && jobs[job.id]?.attempts == 0 && outage == nil {
                    report.goodWaited = max(report.goodWaited, time - (jobs[job.id]?.enqueuedAt ?? time))
                }
            }
            try await judge(&report, at: time, down: down, on: database)
        }
        report.openings = try await database.number(
            "select count(*) from breakwater.circuit_transition where key = '' and from_state = 'closed' and to_state = 'open'"
        )
        report.dead = try await database.count("dead_letter")
        return report
    }

    /// Inserts six jobs, which is two thirds of what the workers can run in a step.
    private func insert(
        _ jobs: inout [Int64: SimulatedJob],
        at time: Double,
        on database: TestDatabase,
        using generator: inout SeededGenerator
    ) async throws {
        let head = time == Self.step ? badHead : 0
        let bad = (0..<(head + 6)).map { $0 < head || Double.random(in: 0..<1, using: &generator) < badShare }
        let hosts = bad.map { _ in Int32.random(in: 0..<10, using: &generator) }
        let rows = try await database.query(
            """
            insert into breakwater.job (kind, payload)
            select 'k', jsonb_build_object('host', 'h' || h) from unnest($1::integer[]) with ordinality u(h, place)
             order by place returning id
            """,
            [.int4Array(hosts)]
        )
        for (place, row) in rows.enumerated() {
            let isBad = bad[place] || Int(hosts[place]) < badKeys
            jobs[try row[0].int64()] = SimulatedJob(isBad: isBad, enqueuedAt: time)
        }
    }

    private func judge(_ report: inout Report, at time: Double, down: Bool, on database: TestDatabase) async throws {
        let state = try await database.text("select state from breakwater.circuit where kind = 'k' and key = ''")
        guard let outage else {
            report.falseSeconds += state == "closed" ? 0 : Self.step
            return
        }
        if down, state != "closed", report.noticedAfter == nil { report.noticedAfter = time - outage.lowerBound }
        if time > outage.upperBound, state == "closed", report.closedAfter == nil {
            report.closedAfter = time - outage.upperBound
        }
        if time < outage.lowerBound, state != "closed" { report.falseSeconds += Self.step }
    }
}
