import Foundation
import Glibc
import Synchronization

/// Stands between a client and Postgres, and counts the statements and round trips that the client sends.
final class CountingProxy: Sendable {
    /// The requests that were sent on all connections.
    struct Counts: Sendable {
        /// The texts of the statements of each round trip, in order.
        var roundTrips: [[String]] = []

        /// The round trips of a worker's claim loop.
        var claims: [[String]] {
            roundTrips.filter { $0.contains { $0.contains("breakwater.claim(") || $0.contains("breakwater.settle(") } }
        }
    }

    let port: UInt16
    private let listener: Int32
    private let server: UInt16
    private let counts = Mutex(Counts())
    /// While set, the proxy drops all bytes in both directions and gives no sign of it.
    let swallows = Atomic(false)
    /// While set, the proxy closes every third connection that commits, after the server has committed and before the
    /// client knows.
    let losesCommits = Atomic(false)
    private let commits = Atomic(0)
    /// How many answers to COMMIT were lost.
    let lostCommits = Atomic(0)

    var seen: Counts { counts.withLock { $0 } }

    /// - Parameter server: The port of the Postgres server, on this machine.
    init(server: UInt16) throws {
        self.server = server
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = Self.loopback(port: 0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listener = listener
        let port = withUnsafeMutableBytes(of: &address) { bytes -> UInt16? in
            // The function takes the general form of a socket address.
            let general = bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self)
            guard bind(listener, general, length) == 0, listen(listener, 64) == 0,
                getsockname(listener, general, &length) == 0
            else { return nil }
            return UInt16(bigEndian: bytes.loadUnaligned(as: sockaddr_in.self).sin_port)
        }
        guard let port else { throw POSIXError(.EADDRINUSE) }
        self.port = port
        Thread { self.accept() }.start()
    }

    func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

    private static func loopback(port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        address.sin_port = port.bigEndian
        return address
    }

    private func accept() {
        while true {
            let client = Glibc.accept(listener, nil, nil)
            guard client >= 0 else { break }
            let upstream = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            var address = Self.loopback(port: server)
            let isConnected = withUnsafeBytes(of: &address) { bytes in
                // This function, too, takes the general form of a socket address.
                let general = bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self)
                return connect(upstream, general, socklen_t(bytes.count)) == 0
            }
            guard isConnected else {
                close(client)
                close(upstream)
                continue
            }
            // The thread that ends last closes both sockets. If they were closed earlier, another connection could get
            // their descriptors, and the other thread would read from them and shut them down.
            let ends = Ends(client, upstream)
            let isLosing = Flag()
            Thread {
                var reader = Reader()
                self.pump(client, upstream) { bytes in
                    let trips = reader.read(bytes)
                    if !trips.isEmpty { self.counts.withLock { $0.roundTrips += trips } }
                    if trips.contains(["commit"]), self.mustLoseCommit() {
                        isLosing.value.store(true, ordering: .relaxed)
                    }
                }
                ends.close()
            }.start()
            Thread {
                self.pump(upstream, client, isLosing) { _ in }
                ends.close()
            }.start()
        }
        close(listener)
    }

    /// Two sockets that are closed when both of their threads are done with them.
    private final class Ends: Sendable {
        private let sockets: [Int32]
        private let closed = Mutex(0)

        init(_ sockets: Int32...) { self.sockets = sockets }

        func close() {
            let isLast = closed.withLock { count in
                count += 1
                return count == 2
            }
            if isLast { for socket in sockets { Glibc.close(socket) } }
        }
    }

    private final class Flag: Sendable {
        let value = Atomic(false)
    }

    private func mustLoseCommit() -> Bool {
        losesCommits.load(ordering: .relaxed) && commits.add(1, ordering: .relaxed).newValue % 3 == 0
    }

    /// Passes bytes on until one side ends, or until the flag says to lose an answer.
    private func pump(
        _ source: Int32,
        _ target: Int32,
        _ isLosing: Flag? = nil,
        _ look: (ArraySlice<UInt8>) -> Void
    ) {
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = recv(source, &buffer, buffer.count, 0)
            guard count > 0 else { break }
            if swallows.load(ordering: .relaxed) { continue }
            if isLosing?.value.load(ordering: .relaxed) == true {
                lostCommits.add(1, ordering: .relaxed)
                shutdown(source, Int32(SHUT_RDWR))
                break
            }
            look(buffer[..<count])
            var rest = buffer[..<count]
            while !rest.isEmpty {
                let sent = rest.withUnsafeBytes { send(target, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
                guard sent > 0 else {
                    shutdown(source, Int32(SHUT_RDWR))
                    return
                }
                rest = rest.dropFirst(sent)
            }
        }
        shutdown(target, Int32(SHUT_RDWR))
    }

    /// Reads the client's side of the protocol (version 3).
    private struct Reader {
        private var buffer: [UInt8] = []
        private var isStarted = false
        private var statements: [String] = []

        mutating func read(_ bytes: ArraySlice<UInt8>) -> [[String]] {
            buffer += bytes
            var trips: [[String]] = []
            while true {
                // The first messages have no type byte. The one with the protocol's version is the last of them.
                let header = isStarted ? 5 : 4
                guard buffer.count >= header else { break }
                let length = buffer[(header - 4)..<header].reduce(0) { $0 << 8 | Int($1) } + header - 4
                guard buffer.count >= length else { break }
                let message = Array(buffer[..<length])
                buffer.removeFirst(length)
                guard isStarted else {
                    isStarted = message.count >= 8 && message[4...7].elementsEqual([0, 3, 0, 0])
                    continue
                }
                switch message[0] {
                case UInt8(ascii: "P"):
                    // The statement's name ends with a zero byte, and its text follows.
                    let text = message[5...].drop { $0 != 0 }.dropFirst().prefix { $0 != 0 }
                    statements.append(String(decoding: text, as: UTF8.self))
                case UInt8(ascii: "B"):
                    if statements.isEmpty { statements.append("a prepared statement") }
                case UInt8(ascii: "Q"):
                    trips.append(["a script"])
                case UInt8(ascii: "S"):
                    trips.append(statements)
                    statements = []
                default: break
                }
            }
            return trips
        }
    }
}
