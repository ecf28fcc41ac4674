import Foundation
import Glibc

/// Listens on a port of this machine, and never answers, or closes each connection as a proxy does whose server is down.
final class SilentServer: Sendable {
    private let descriptor: CInt
    let port: Int

    /// - Parameters:
    ///   - host: The last number of its address. Defaults to that of 127.0.0.1.
    ///   - port: The port. Defaults to any free one.
    ///   - closesAfter: How many bytes it reads before it closes a connection; nil to keep it. Defaults to nil.
    init(host: UInt32 = 1, port wanted: Int = 0, closesAfter bytes: Int? = nil) throws {
        descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0000 | host).bigEndian
        address.sin_port = in_port_t(wanted).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let descriptor = descriptor
        let isBound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 && listen(descriptor, 8) == 0
                    && getsockname(descriptor, $0, &length) == 0
            }
        }
        guard isBound else { throw SilentServerError() }
        port = Int(UInt16(bigEndian: address.sin_port))
        guard let bytes else { return }
        Thread {
            while case let client = accept(descriptor, nil, nil), client >= 0 {
                var buffer = [UInt8](repeating: 0, count: max(bytes, 1))
                if bytes > 0 { _ = read(client, &buffer, bytes) }
                _ = close(client)
            }
        }.start()
    }

    deinit {
        // This wakes the thread that accepts.
        shutdown(descriptor, CInt(SHUT_RDWR))
        close(descriptor)
    }
}

struct SilentServerError: Error {}
