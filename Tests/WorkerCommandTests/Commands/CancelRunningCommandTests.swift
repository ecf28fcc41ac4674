import BreakwaterTesting
import Foundation
import Glibc
import Libpq
import Testing

/// `worker cancel` of jobs that run in a worker process.
@Suite(
    "Running jobs that a user cancels at the command line",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct CancelRunningCommandTests {
    /// A stdio handler that answers a run only when it is cancelled, and then says so in a file.
    private static let pool = #"""
        read -r hello
        echo '{"type":"hello","protocol":1,"can":["cancel"]}'
        while read -r line; do
            run=${line#*'"run":'}
            run=${run%%[,\}]*}
            case $line in
            *'"type":"run"'*)
                echo '{"type":"progress","run":'$run',"fraction":0.5,"note":"half"}'
                echo '{"type":"checkpoint","run":'$run',"checkpoint":{"page":2}}'
                ;;
            *'"type":"cancel"'*)
                echo cancelled > "$1"
                echo '{"type":"result","run":'$run',"outcome":"released"}'
                ;;
            esac
        done
        """#

    /// A server that takes requests and answers none.
    private final class SilentServer: Sendable {
        let port: Int
        private let descriptor: Int32

        init() throws {
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var timeout = timeval(tv_sec: 120, tv_usec: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = inet_addr("127.0.0.1")
            var size = socklen_t(MemoryLayout<sockaddr_in>.size)
            let isListening = withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                    bind(descriptor, address, size) == 0 && listen(descriptor, 16) == 0
                        && getsockname(descriptor, address, &size) == 0
                }
            }
            #expect(isListening)
            port = Int(UInt16(bigEndian: address.sin_port))
            self.descriptor = descriptor
        }

        /// Whether the client has closed its first connection. It waits for that, up to a minute.
        func isAborted() async -> Bool {
            await withCheckedContinuation { continuation in
                Thread.detachNewThread { [descriptor] in
                    let client = accept(descriptor, nil, nil)
                    var timeout = timeval(tv_sec: 60, tv_usec: 0)
                    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
                    var buffer = [UInt8](repeating: 0, count: 65_536)
                    var count = read(client, &buffer, buffer.count)
                    while count > 0 { count = read(client, &buffer, buffer.count) }
                    close(client)
                    // The end of the stream, or a reset.
                    continuation.resume(returning: count == 0 || errno == ECONNRESET)
                }
            }
        }

        deinit { close(descriptor) }
    }

    private func withDirectory(_ body: (String) async throws -> Void) async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "cancel-\(UUID())").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try await body(directory)
    }

    private func text(_ file: String) -> String? {
        guard let text = try? String(contentsOfFile: file, encoding: .utf8), text.hasSuffix("\n") else { return nil }
        return text.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    @Test(
        "end their programs, requests and runs of long-lived processes, also behind a pooler",
        arguments: [false, true]
    )
    func cancels(isPooled: Bool) async throws {
        guard !isPooled || Pooler.isInstalled else { return }
        try await withTestDatabase { database in
            try await withDirectory { directory in
                let server = try SilentServer()
                try Self.pool.write(toFile: "\(directory)/pool.sh", atomically: true, encoding: .utf8)
                // The program ignores SIGTERM.
                let program = """
                    trap '' TERM
                    echo '{"fraction": 0.25}' >&3
                    echo $$ > \(directory)/pid
                    sleep 600
                    """
                try program.write(toFile: "\(directory)/program.sh", atomically: true, encoding: .utf8)
                let file = """
                    lease: 60s
                    handlers:
                      program: { exec: { command: [sh, \(directory)/program.sh], kill_after: 100ms, progress: true } }
                      pool: { stdio: { command: [sh, \(directory)/pool.sh, \(directory)/told], kill_after: 60s } }
                      hook: { http: { url: "http://127.0.0.1:\(server.port)/", allow: [127.0.0.1] } }
                    """
                try await withPooler(isPooled, database) { url in
                    try await withFile(file) { path in
                        let run = try WorkerBinary.Run(["run", "--config", path, "--database", url])
                        do {
                            try await cancelAll(database, server, directory)
                        } catch {
                            Issue.record("\(error): \(run.errors)")
                        }
                        run.signal(SIGTERM)
                        #expect(try await run.end().status == 0)
                    }
                }
            }
        }
    }

    private func withPooler(
        _ isPooled: Bool,
        _ database: TestDatabase,
        _ body: (String) async throws -> Void
    ) async throws {
        guard isPooled else { return try await body(database.url) }
        try await Pooler.with { try await body(try $0.url(of: database)) }
    }

    private func cancelAll(_ database: TestDatabase, _ server: SilentServer, _ directory: String) async throws {
        try await database.query(
            """
            insert into breakwater.job (kind, max_attempts) values ('program', 1), ('pool', 1), ('hook', 1)
            """
        )
        async let isAborted = server.isAborted()
        // The heartbeat stores them, at most five seconds later.
        try await waitUntil("two report progress, and all run", deadline: .seconds(60)) {
            let reports = try await database.number("select count(fraction) from breakwater.running_job")
            let running = try await database.number("select count(*) from breakwater.running_job")
            return reports == 2 && running == 3 && text("\(directory)/pid") != nil
        }
        let status = try await database.worker("status")
        #expect(status.output.contains("PROGRESS") && status.output.contains("25 %"), "\(status.output)")
        let job = try await database.worker("job", "2")
        #expect(job.output.contains("50 %: half") && job.output.contains(#"{"page":2}"#), "\(job.output)")
        let ending = try await database.worker("cancel", "1", "2", "3", "--reason", "wrong file")
        #expect(ending.status == 0)
        #expect(ending.output.contains("Job 1 runs; its worker was asked to cancel it."), "\(ending.output)")
        try await waitUntil("they have ended") {
            try await database.number("select count(*) from breakwater.dead_letter where reason = 'cancelled'") == 3
        }
        #expect(try await database.number("select count(*) from breakwater.cancel_request") == 0)
        #expect(try await database.number("select max(attempt) from breakwater.dead_letter") == 0)
        #expect(try await database.number("select coalesce(sum(failed), 0)::int8 from breakwater.tally") == 0)
        #expect(text("\(directory)/told") == "cancelled")
        let process = try #require(text("\(directory)/pid").flatMap { Int32($0) })
        try await waitUntil("the program is gone") { kill(process, 0) != 0 }
        #expect(await isAborted)
        // The checkpoint is kept for a redrive.
        let after: [String: Any] = try await database.worker("job", "2", "--json").json()
        let progress = try #require(after["progress"] as? [String: Any])
        #expect(progress["checkpoint"] as? [String: Int] == ["page": 2])
    }

    @Test("are dead letters although their worker is killed before it has cancelled them")
    func killed() async throws {
        try await withTestDatabase { database in
            try await withDirectory { directory in
                let program = "trap '' TERM\necho $$ >> \(directory)/pids\nsleep 600\n"
                try program.write(toFile: "\(directory)/program.sh", atomically: true, encoding: .utf8)
                let file = """
                    lease: 2s
                    handlers: { program: { exec: { command: [sh, \(directory)/program.sh], kill_after: 1h } } }
                    """
                try await database.query("insert into breakwater.job (kind) values ('program')")
                let first = try await database.running(file) { worker in
                    try await waitUntil("it runs", deadline: .seconds(60)) { text("\(directory)/pids") != nil }
                    _ = try await database.worker("cancel", "1")
                    #expect(try await database.number("select count(*) from breakwater.cancel_request") == 1)
                    worker.signal(SIGKILL)
                }
                #expect(first.status == 128 + SIGKILL)
                try await database.running(file) { _ in
                    try await waitUntil("it is a dead letter", deadline: .seconds(60)) {
                        try await database.number(
                            "select count(*) from breakwater.dead_letter where reason = 'cancelled'"
                        ) == 1
                    }
                }
                // It did not run again.
                let pids = try #require(text("\(directory)/pids"))
                #expect(!pids.contains("\n"))
            }
        }
    }
}
