import BreakwaterTesting
import Foundation
import Glibc
import Libpq
import TestPrograms
import Testing

/// Workers under real limits. A worker that lacks a resource must spend no attempt and open no circuit.
@Suite(
    "A worker whose machine lacks a resource",
    .enabled(if: TestDatabase.isAvailable && WorkerBinary.isBuilt, "BREAKWATER_TEST_DATABASE or the program is missing")
)
struct WorkerLimitTests {
    /// Rules with which a few failures open the circuit, and with which jobs have one attempt.
    private static let rules = "retry: { max_attempts: 1 }, circuit: { minimum_calls: 5, consecutive_failures: 5 }"

    /// Checks that no attempt was spent and that no circuit has counted a call.
    private func expectNoHarm(_ database: TestDatabase, sourceLocation: SourceLocation = #_sourceLocation) async throws
    {
        let states = try await database.query("select distinct state from breakwater.circuit")
        #expect(try states.map { try $0[0].string() } == ["closed"], sourceLocation: sourceLocation)
        for none in [
            "select coalesce(max(attempt), 0) from breakwater.job",
            "select count(*) from breakwater.circuit_transition",
            "select count(*) from breakwater.dead_letter", "select coalesce(sum(failed), 0) from breakwater.tally",
            "select count(*) from breakwater.suspension where not is_local",
        ] {
            #expect(try await database.number(none) == 0, "\(none)", sourceLocation: sourceLocation)
        }
    }

    /// Waits until a worker has suspended itself.
    ///
    /// - Returns: The reason of the suspension.
    private func suspensionReason(_ database: TestDatabase) async throws -> String {
        try await waitUntil("the worker suspends itself") {
            try await database.number("select count(*) from breakwater.suspension_status where is_local") > 0
        }
        return try await database.text("select min(reason) from breakwater.suspension_status where is_local")
    }

    private func waitUntilAllHaveSucceeded(_ count: Int, _ database: TestDatabase) async throws {
        try await waitUntil("all jobs have ended", deadline: .seconds(180)) {
            try await database.number("select count(*) from breakwater.job") == 0
        }
        #expect(try await database.number("select sum(succeeded) from breakwater.tally") == count)
    }

    /// The warnings in the worker's log.
    private func warnings(_ ending: WorkerBinary.Ending) -> [String] {
        ending.logLines.filter { $0["level"] as? String == "warning" }.compactMap { $0["msg"] as? String }
    }

    @Test(
        "descriptors run out: the jobs wait, and succeed once the limit is raised",
        arguments: [["program"], ["hook"], ["program", "hook"]]
    )
    func descriptors(kinds: [String]) async throws {
        let server = try PatientServer()
        defer { server.stop() }
        let file = """
            concurrency: 100
            poll_interval: 50ms
            handlers:
              program: { exec: { command: [sleep, "0.3"] }, concurrency: 40, \(Self.rules) }
              hook: { http: { url: "http://127.0.0.1:\(server.port)/" }, concurrency: 100, \(Self.rules) }
            """
        try await withTestDatabase { database in
            try await database.query(
                "insert into breakwater.job (kind) select k from generate_series(1, 100), unnest($1) k",
                [.textArray(kinds)]
            )
            let ending = try await database.running(file, limits: ["/usr/bin/prlimit", "--nofile=64:4096"]) { run in
                let reason = try await suspensionReason(database)
                #expect(
                    reason.contains("this worker may have 64 files open (ulimit -n), and too few are left"),
                    "\(reason)"
                )
                try await expectNoHarm(database)
                try await prlimit(["--nofile=4096:4096"], run)
                try await waitUntilAllHaveSucceeded(kinds.count * 100, database)
            }
            #expect(ending.status == 0)
            let suspended = warnings(ending).contains { line in
                kinds.contains { line.contains("suspends itself for \($0) until") }
            }
            #expect(suspended, "\(ending.errors)")
            try await expectNoHarm(database)
        }
    }

    @Test("descriptors run out on one of two workers: the other runs the jobs")
    func descriptorsOfOne() async throws {
        func file(_ concurrency: Int) -> String {
            """
            poll_interval: 50ms
            handlers:
              program: { exec: { command: [sleep, "0.1"] }, concurrency: \(concurrency), \(Self.rules) }
            """
        }
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind) select 'program' from generate_series(1, 100)")
            // With so few descriptors, not even the first program can be started.
            try await database.running(file(40), limits: ["/usr/bin/prlimit", "--nofile=32"]) { _ in
                let reason = try await suspensionReason(database)
                #expect(reason.contains("this worker may have 32 files open"), "\(reason)")
                try await database.running(file(4)) { _ in
                    try await waitUntilAllHaveSucceeded(100, database)
                }
            }
            try await expectNoHarm(database)
        }
    }

    @Test(
        "processes run out: the jobs wait, and succeed once the limit is raised",
        .enabled(if: geteuid() == 0 && isReachableByOthers(WorkerBinary.path), "it takes root to become another user")
    )
    func processes() async throws {
        // The worker runs as a user of its own, because the limit counts all processes of a user. The user is not root,
        // because the limit does not bind root.
        let user = 50_000 + getpid() % 10_000
        let become = ["/usr/bin/setpriv", "--reuid=\(user)", "--regid=\(user)", "--clear-groups"]
        let file = """
            concurrency: 24
            poll_interval: 50ms
            handlers:
              program: { exec: { command: [sleep, "0.5"] }, \(Self.rules) }
            """
        try await withTestDatabase { database in
            let limits = become + ["/usr/bin/prlimit", "--nproc=400:400"]
            let ending = try await database.running(file, limits: limits) { run in
                try await waitUntil("the worker is there") {
                    try await database.number("select count(*) from breakwater.worker") == 1
                }
                // Each connection has a thread. The worker has all of its connections when it has run a job and starts
                // no more threads.
                try await database.query("insert into breakwater.job (kind) values ('program')")
                try await waitUntil("a job has run") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
                var (threads, since) = (0, ContinuousClock.now)
                try await waitUntil("it starts no more threads") {
                    let count = try FileManager.default
                        .contentsOfDirectory(atPath: "/proc/\(run.processIdentifier)/task").count
                    if count != threads { (threads, since) = (count, .now) }
                    return .now - since > .seconds(1)
                }
                try await prlimit(["--nproc=\(threads + 2):400"], run, become: become)
                try await database.query(
                    "insert into breakwater.job (kind) select 'program' from generate_series(1, 24)"
                )
                let reason = try await suspensionReason(database)
                let limit = "no further process or thread may start: this worker's user may have \(threads + 2) of them"
                #expect(reason.contains("\(limit) (ulimit -u)"), "\(reason)")
                try await expectNoHarm(database)
                try await prlimit(["--nproc=400:400"], run, become: become)
                try await waitUntilAllHaveSucceeded(25, database)
            }
            #expect(ending.status == 0)
            #expect(warnings(ending).contains { $0.contains("suspends itself for program until") }, "\(ending.errors)")
            try await expectNoHarm(database)
        }
    }

    @Test("the program is gone from one of two workers: the other runs the jobs, and the one goes on when it is back")
    func program() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "programs-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        func install(_ name: String) throws -> String {
            let path = directory.appending(path: name).path()
            try FileManager.default.copyItem(atPath: "/bin/sleep", toPath: path)
            return path
        }
        func file(_ path: String) -> String {
            """
            poll_interval: 50ms
            handlers:
              program: { exec: { command: ["\(path)", "0.05"] }, concurrency: 2, \(Self.rules) }
            """
        }
        let (lost, kept) = (try install("lost"), try install("kept"))
        try await withTestDatabase { database in
            try await database.running(file(lost)) { _ in
                try await database.running(file(kept)) { _ in
                    try await waitUntil("both are there") {
                        try await database.number("select count(*) from breakwater.worker") == 2
                    }
                    try FileManager.default.removeItem(atPath: lost)
                    try await database.query(
                        "insert into breakwater.job (kind) select 'program' from generate_series(1, 40)"
                    )
                    let reason = try await suspensionReason(database)
                    #expect(reason.contains("the program \(lost) could not be run"), "\(reason)")
                    try await waitUntilAllHaveSucceeded(40, database)
                    try await expectNoHarm(database)

                    _ = try install("lost")
                    try await waitUntil("the worker has run a job again") {
                        try await database.query("insert into breakwater.job (kind) values ('program')")
                        return try await database.number("select count(*) from breakwater.suspension") == 0
                    }
                }
            }
            try await expectNoHarm(database)
        }
    }

    @Test("the file of certificate authorities is gone: the jobs wait, and status says why")
    func certificates() async throws {
        let bundle = FileManager.default.temporaryDirectory.appending(path: "ca-\(UUID().uuidString).pem")
        try "".write(to: bundle, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(at: bundle) }
        let server = try PatientServer()
        defer { server.stop() }
        let file = """
            poll_interval: 50ms
            handlers:
              hook:
                http: { url: "https://127.0.0.1:\(server.port)/", ca_file: "\(bundle.path())" }
                retry: { max_attempts: 1 }
                circuit: { minimum_calls: 5, consecutive_failures: 5 }
            """
        try await withTestDatabase { database in
            _ = try await database.running(file) { _ in
                try await waitUntil("the worker is there") {
                    try await database.number("select count(*) from breakwater.worker") == 1
                }
                try FileManager.default.removeItem(at: bundle)
                try await database.query("insert into breakwater.job (kind) select 'hook' from generate_series(1, 10)")
                let reason = try await suspensionReason(database)
                #expect(
                    reason.contains("cannot read its file of certificate authorities '\(bundle.path())'"),
                    "\(reason)"
                )
                try await expectNoHarm(database)
            }
        }
    }
}

/// Changes the limits of a running worker.
private func prlimit(_ limits: [String], _ run: WorkerBinary.Run, become: [String] = []) async throws {
    let command = become + ["/usr/bin/prlimit"] + limits + ["--pid", "\(run.processIdentifier)"]
    let status = try await Child(command[0], Array(command.dropFirst())).end()
    try #require(status == 0)
}

/// Whether every user may run a file.
private func isReachableByOthers(_ file: URL) -> Bool {
    var path = file.resolvingSymlinksInPath()
    while path.path() != "/" {
        let attributes = try? FileManager.default.attributesOfItem(atPath: path.path())
        guard let mode = attributes?[.posixPermissions] as? Int, mode & Int(S_IXOTH) != 0 else { return false }
        path.deleteLastPathComponent()
    }
    return true
}

/// A server on a loopback port that takes a third of a second for each answer, so that many connections are open at
/// once.
private final class PatientServer: Sendable {
    let port: UInt16
    private let listener: Int32

    init() throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let port = withUnsafeMutableBytes(of: &address) { bytes -> UInt16? in
            // The function takes the general form of a socket address.
            let general = bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self)
            guard bind(listener, general, length) == 0, listen(listener, 512) == 0,
                getsockname(listener, general, &length) == 0
            else { return nil }
            return UInt16(bigEndian: bytes.loadUnaligned(as: sockaddr_in.self).sin_port)
        }
        guard let port else { throw POSIXError(.init(rawValue: errno) ?? .EIO) }
        self.port = port
        self.listener = listener
        Thread { Self.accept(listener) }.start()
    }

    /// Ends the thread that accepts, which closes the socket.
    func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

    private static func accept(_ listener: Int32) {
        while true {
            let connection = Glibc.accept(listener, nil, nil)
            guard connection >= 0 else { break }
            // A program that another test starts must not hold the connection open.
            _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
            Thread { serve(connection) }.start()
        }
        close(listener)
    }

    /// Answers each request that arrives. The requests are so small that each arrives whole.
    private static func serve(_ connection: Int32) {
        var buffer = [UInt8](repeating: 0, count: 16_384)
        let answer = Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".utf8)
        while read(connection, &buffer, buffer.count) > 0 {
            usleep(300_000)
            if send(connection, answer, answer.count, Int32(MSG_NOSIGNAL)) < 0 { break }
        }
        close(connection)
    }
}
