import BreakwaterHTTP
import BreakwaterTesting
import Foundation
import Glibc
import Libpq
import Synchronization
import TestPrograms
import Testing

@testable import Breakwater

@Suite(
    "A fleet with a half-open circuit",
    .enabled(if: TestDatabase.isAvailable, "BREAKWATER_TEST_DATABASE is not set")
)
struct FleetProbeTests {
    private static let probes = 3
    private static let fleet = 20

    /// A worker of the fleet, with its own session and its own HTTP plugin.
    private struct Member: Sendable {
        var connection: Connection
        var worker: Int64
        var plugin: HTTPPlugin

        /// Claims as many jobs as it can, calls `claimed`, makes the requests, and settles their outcomes.
        ///
        /// - Returns: How many jobs it got, and how many of them were not probes.
        func work(claimed: @Sendable () -> Void) async throws -> (jobs: Int, others: Int) {
            let claim = Claim(
                worker: worker,
                lanes: [Lane(queue: "default", kind: "hook", priority: 5)],
                room: [("hook", 10, 10)],
                total: 10
            )
            let jobs = try await connection.call(claim).map(\.job)
            claimed()
            let runs = try await withThrowingTaskGroup(of: FinishedRun.self) { group in
                for job in jobs {
                    group.addTask {
                        let context = JobContext(
                            job: job,
                            deadline: .now + .seconds(60),
                            logger: RecordedLog().logger()
                        )
                        let outcome = try await plugin.run(job, context: context)
                        var ending = FinishedRun.Ending(outcomeClass: .succeeded)
                        if case .succeeded = outcome {
                        } else {
                            ending.outcomeClass = .unavailable
                            ending.effect = .failed
                        }
                        return FinishedRun(job, ending)
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            _ = try await connection.call(
                Settle(worker: worker, runs: runs, claims: Set(jobs.map(\.lease)).sorted())
            )
            return (jobs.count, jobs.count { !$0.isProbe })
        }
    }

    /// Runs one round: all workers claim at once, and the server answers when all of them have claimed.
    private func round(_ fleet: [Member], _ receiver: Receiver, answer: Int) async throws -> Int {
        receiver.startCounting()
        receiver.answer(nil)
        let claimed = Counter()
        return try await withThrowingTaskGroup(of: (jobs: Int, others: Int).self) { group in
            for member in fleet {
                group.addTask { try await member.work { claimed.raise() } }
            }
            try await waitUntil("all have claimed") { claimed.value == fleet.count }
            try await waitUntil("the probes arrive") { receiver.atOnce >= Self.probes }
            receiver.answer(answer)
            var jobs = 0
            for try await given in group {
                jobs += given.jobs
                #expect(given.others == 0)
            }
            return jobs
        }
    }

    @Test("twenty sessions that claim at once send exactly the allowed number of probes, each time it half-opens")
    func exactlySoMany() async throws {
        let receiver = Receiver()
        try await withServer({ receiver.receive($0) }) { server in
            try await withTestDatabase { database in
                var settings = HandlerSettings()
                settings.retry.maxAttempts = 1000
                settings.circuit.consecutiveFailures = 1
                settings.circuit.probes = Self.probes
                settings.circuit.successesToClose = Self.probes
                settings.circuit.openFor = .seconds(3600)
                settings.circuit.openCap = .seconds(3600)
                settings.circuit.suspendsWorkers = false
                settings.circuit.ramp = .zero
                var fleet: [Member] = []
                for _ in 0..<Self.fleet {
                    let plugin = try HTTPPlugin(url: server.url)
                    let registration = HandlerRegistration(kind: "hook", plugin: plugin, settings: settings)
                    let configuration = WorkerConfiguration(database: database.options, handlers: [registration])
                    let connection = try await database.connect()
                    let worker = try await connection.call(Register(configuration: configuration))
                    fleet.append(Member(connection: connection, worker: worker, plugin: plugin))
                }
                try await database.query("insert into breakwater.job (kind) select 'hook' from generate_series(1, 200)")
                receiver.answer(503)
                _ = try await fleet[0].work {}
                let state = "select state from breakwater.circuit where kind = 'hook'"
                #expect(try await database.text(state) == "open")

                let halfOpens = "update breakwater.circuit set retry_at = now() where state = 'open'"
                let attempts = "select sum(attempt) from breakwater.job"
                let spent = try await database.number(attempts)
                for number in 1...10 {
                    try await database.query(halfOpens)
                    let isLast = number == 10
                    let jobs = try await round(fleet, receiver, answer: isLast ? 200 : 503)
                    #expect(jobs == Self.probes, "round \(number)")
                    #expect(receiver.mostAtOnce == Self.probes, "round \(number)")
                    #expect(receiver.count == Self.probes, "round \(number)")
                    #expect(try await database.text(state) == (isLast ? "closed" : "open"), "round \(number)")
                }
                // The outage's probes cost their jobs no attempt, and the other jobs did not run.
                #expect(try await database.number(attempts) == spent)

                receiver.answer(200)
                try await waitUntil("the jobs end") {
                    try await withThrowingTaskGroup { group in
                        for member in fleet { group.addTask { _ = try await member.work {} } }
                        try await group.waitForAll()
                    }
                    return try await database.number("select count(*) from breakwater.job") == 0
                }
                for member in fleet { await member.connection.close() }
            }
        }
    }

    @Test("a worker killed in the middle of a probe does not block the circuit", .enabled(if: WorkerProgram.isBuilt))
    func killedInTheMiddle() async throws {
        let receiver = Receiver()
        try await withServer({ receiver.receive($0) }) { server in
            try await withTestDatabase { database in
                try await database.query("insert into breakwater.job (kind) select 'hook' from generate_series(1, 20)")
                let configuration = """
                    lease: 2s
                    poll_interval: 100ms
                    handlers:
                      hook:
                        http: { url: "\(server.url)" }
                        timeout: 5m
                        retry: { max_attempts: 1000, base: 10ms, cap: 100ms }
                        circuit:
                          consecutive_failures: 3
                          open_for: 200ms
                          open_cap: 200ms
                          probes: 1
                          successes_to_close: 1
                          ramp: 0s
                    """
                let transitions = """
                    select to_state from breakwater.circuit_transition where kind = 'hook' and id > $1 order by id
                    """
                receiver.answer(503)
                let victim = try WorkerProgram(configuration, database: database.url)
                try await waitUntil("the circuit opens") {
                    try await database.number("select count(*) from breakwater.circuit where state = 'open'") == 1
                }
                // The requests in flight end first. The next request to arrive is a probe.
                try await waitUntil("nothing is under way") { receiver.atOnce == 0 }
                receiver.answer(nil)
                try await waitUntil("a probe is under way") {
                    try await database.number(
                        "select count(*) from breakwater.probe p join breakwater.held h on h.job = p.job and h.lease = p.lease"
                    ) == 1 && receiver.atOnce == 1
                }
                victim.kill()
                let last = Int64(try await database.number("select max(id) from breakwater.circuit_transition"))
                receiver.startCounting()
                receiver.answer(200)

                let heir = try WorkerProgram(configuration, database: database.url)
                try await waitUntil("the jobs end") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
                // The circuit closed without re-opening, and without waiting for the minutes of the probe's lease.
                #expect(try await database.texts(transitions, [.int8(last)]) == ["closed"])
                #expect(try await database.number("select count(*) from breakwater.dead_letter") == 0)
                heir.kill()
            }
        }
    }
}

private final class Counter: Sendable {
    private let count = Mutex(0)

    var value: Int { count.withLock { $0 } }

    func raise() { count.withLock { $0 += 1 } }
}

/// The built `worker`, run as a process of its own.
final class WorkerProgram: Sendable {
    static let path: URL = {
        let bundle = Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") }?.bundleURL
        let executable = URL(filePath: CommandLine.arguments[0])
        let directories = [bundle?.deletingLastPathComponent(), executable.deletingLastPathComponent()]
        return directories.compactMap { $0?.appending(path: "worker") }
            .first { FileManager.default.isExecutableFile(atPath: $0.path()) } ?? URL(filePath: ".build/debug/worker")
    }()

    static var isBuilt: Bool { FileManager.default.isExecutableFile(atPath: path.path()) }

    private let child: Child
    private let file: URL

    init(_ configuration: String, database: String) throws {
        file = FileManager.default.temporaryDirectory.appending(path: "fleet-\(UUID().uuidString).yaml")
        try configuration.write(to: file, atomically: true, encoding: .utf8)
        // No server listens at this address. A worker that used a proxy from its environment would reach nothing.
        let nobody = "http://127.0.0.1:1"
        child = try Child(
            Self.path.path(),
            ["run", "--config", file.path(), "--database", database],
            environment: ["PATH": "/usr/bin:/bin", "http_proxy": nobody, "all_proxy": nobody],
            errors: ProcessInfo.processInfo.environment["BREAKWATER_TEST_LOG"] == nil ? .null : .inherited
        )
    }

    deinit {
        kill()
        try? FileManager.default.removeItem(at: file)
    }

    /// Kills the process, if it still runs.
    func kill() { child.signal(SIGKILL) }
}
