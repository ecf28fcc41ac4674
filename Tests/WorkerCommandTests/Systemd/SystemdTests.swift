import Breakwater
import BreakwaterTesting
import Foundation
import Synchronization
import Testing

@testable import WorkerCommand

@Suite("systemd's notifications")
struct SystemdTests {
    @Test("reach a socket at a path and one in the abstract space", arguments: ["/", "@"])
    func sockets(beginning: String) throws {
        let receiver = try NotifyReceiver(abstract: beginning == "@")
        #expect(receiver.name.hasPrefix(beginning))
        let socket = try #require(NotifySocket(environment: ["NOTIFY_SOCKET": receiver.name]))
        #expect(socket.send(["READY=1", "STATUS=takes jobs"]))
        #expect(receiver.receive() == ["READY=1", "STATUS=takes jobs"])
    }

    @Test("are not sent if nothing listens, and cause no error")
    func nobody() throws {
        #expect(NotifySocket(environment: [:]) == nil)
        #expect(NotifySocket(environment: ["NOTIFY_SOCKET": "relative"]) == nil)
        #expect(NotifySocket(environment: ["NOTIFY_SOCKET": "/" + String(repeating: "x", count: 200)]) == nil)
        let gone = try #require(NotifySocket(environment: ["NOTIFY_SOCKET": "/nonexistent/notify"]))
        #expect(!gone.send(["READY=1"]))
    }

    @Test("are not waited for if the listener does not read")
    func deaf() throws {
        let receiver = try NotifyReceiver(abstract: true)
        let socket = try #require(NotifySocket(environment: ["NOTIFY_SOCKET": receiver.name]))
        #expect((1...5000).contains { _ in !socket.send(["WATCHDOG=1"]) })
        _ = receiver.receive()
        #expect(socket.send(["STOPPING=1"]))
    }

    @Test("report each change once")
    func news() {
        var report = SystemdReport()
        let good = WorkerHealth.Answer(reasons: [])
        let bad = WorkerHealth.Answer(reasons: ["no connection:\nrefused"])
        #expect(report.changes(ready: bad, live: good, drains: false) == ["STATUS=no connection: refused"])
        #expect(report.changes(ready: good, live: good, drains: false) == ["READY=1", "STATUS=takes jobs"])
        #expect(report.changes(ready: good, live: good, drains: false) == [])
        #expect(
            report.changes(ready: bad, live: good, drains: true) == ["STOPPING=1", "STATUS=no connection: refused"]
        )
        #expect(report.changes(ready: bad, live: good, drains: true) == [])
    }

    @Test(
        "come from a running worker: ready, alive, stopping",
        .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
        .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)"),
        arguments: [false, true]
    )
    func worker(abstract: Bool) async throws {
        try await withTestDatabase { database in
            let receiver = try NotifyReceiver(abstract: abstract)
            let heard = Mutex<[String]>([])
            let environment = ["NOTIFY_SOCKET": receiver.name, "WATCHDOG_USEC": "400000"]
            let file = "handlers: { k: { exec: { command: [cat] } } }"
            // Like systemd, this reads all the time. Otherwise the queue would be full.
            let listening = Task {
                while !Task.isCancelled {
                    heard.withLock { $0 += receiver.receive() }
                    try? await Task.sleep(for: .milliseconds(10))
                }
            }
            defer { listening.cancel() }
            try await database.running(file, environment: environment) { _ in
                try await waitUntil("it is ready, and tells the watchdog again and again") {
                    heard.withLock { $0.contains("READY=1") && $0.count { $0 == "WATCHDOG=1" } > 3 }
                }
            }
            listening.cancel()
            await listening.value
            heard.withLock { heard in
                for _ in 1...50 { heard += receiver.receive() }
                #expect(heard.contains("STATUS=takes jobs"))
                #expect(heard.contains("STOPPING=1"))
                #expect(heard.count { $0 == "READY=1" } == 1)
                #expect(heard.firstIndex(of: "READY=1").map { $0 < heard.firstIndex(of: "STOPPING=1") ?? 0 } == true)
            }
        }
    }
}

/// The socket on which systemd would listen.
final class NotifyReceiver: Sendable {
    let name: String
    private let descriptor: Int32

    init(abstract: Bool) throws {
        let unique = "breakwater-\(UUID().uuidString)"
        name = abstract ? "@\(unique)" : FileManager.default.temporaryDirectory.appending(path: unique).path()
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { path in
            path.copyBytes(from: name.utf8)
            if abstract { path[0] = 0 }
        }
        let length = socklen_t(2 + name.utf8.count)
        let result = withUnsafePointer(to: address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
        }
        guard result == 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EINVAL) }
    }

    deinit {
        close(descriptor)
        if !name.hasPrefix("@") { unlink(name) }
    }

    /// The lines of the next message, or none if there is no message.
    func receive() -> [String] {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        guard count > 0 else { return [] }
        return String(decoding: buffer[..<count], as: UTF8.self).split(separator: "\n").map(String.init)
    }
}
