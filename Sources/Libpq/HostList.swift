import CLibpq
import Glibc

/// The servers that a conninfo names, in order: libpq's `host`, `hostaddr` and `port` lists.
struct HostList: Equatable {
    struct Server: Equatable {
        /// A name, an address, or the directory of a socket; empty if only `address` is given.
        var host: String
        /// The address; empty if `host` is to be resolved.
        var address: String
        /// The port; empty for the default.
        var port: String
    }

    /// The servers; empty if libpq is to decide, because no host is named, or because the lists do not match and libpq
    /// reports that.
    private(set) var servers: [Server] = []

    /// The most addresses of one name that are tried separately.
    static let maximumAddresses = 16

    /// Reads the lists from `keywords`, or those of the environment if they are missing.
    init(_ keywords: [String: String], defaults: [String: String]) {
        func list(_ key: String) -> [String]? {
            (keywords[key] ?? defaults[key])?.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        }
        // A service file takes precedence over the environment, and only libpq reads it.
        if keywords["service"] != nil { return }
        // A host given here does not make libpq ignore the environment: PGHOSTADDR and PGPORT still count.
        let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port") ?? [""])
        let count = max(hosts?.count ?? 0, addresses?.count ?? 0)
        guard hosts?.count ?? count == count, addresses?.count ?? count == count, [1, count].contains(ports.count)
        else {
            return
        }
        servers = (0..<count).map { index in
            Server(
                host: hosts?[index] ?? "",
                address: addresses?[index] ?? "",
                port: ports[ports.count == 1 ? 0 : index]
            )
        }
    }

    /// The number of servers to try.
    var count: Int { max(servers.count, 1) }

    /// The list with a separate server for each address of a name that has several. libpq has a timeout for each server
    /// of its lists but not for each address of one name, so an address that does not answer would keep it from trying
    /// the others.
    func expanded(by addresses: (_ name: String) -> [String]) -> HostList {
        var expanded = self
        expanded.servers = servers.flatMap { server in
            let isName =
                server.address.isEmpty && !server.host.isEmpty && !server.host.hasPrefix("/")
                && !server.host.hasPrefix("@")
            let found = isName ? addresses(server.host).prefix(Self.maximumAddresses) : []
            if found.count < 2 { return [server] }
            return found.map { Server(host: server.host, address: $0, port: server.port) }
        }
        return expanded
    }

    /// Removes the server for which libpq reports these names. Returns false when it is not in the list or is the only
    /// one.
    mutating func remove(host: String, address: String, port: String) -> Bool {
        guard servers.count > 1, let index = index(host, address, port) else { return false }
        servers.remove(at: index)
        return true
    }

    /// Removes the server for which libpq reports these names, and those before it. Returns false when it is not in the
    /// list or is the last one.
    mutating func removeAll(through host: String, address: String, port: String) -> Bool {
        guard let index = index(host, address, port), index < servers.count - 1 else { return false }
        servers.removeSubrange(...index)
        return true
    }

    private func index(_ host: String, _ address: String, _ port: String) -> Int? {
        servers.firstIndex { server in
            (server.host == host || server.address == host)
                && (server.address.isEmpty || server.address == address)
                && (server.port.isEmpty || server.port == port)
        }
    }

    /// Returns `keywords` with these servers.
    func applied(to keywords: [String: String]) -> [String: String] {
        guard !servers.isEmpty else { return keywords }
        func list(_ key: String, _ part: KeyPath<Server, String>) -> String? {
            let isGiven = servers.contains { !$0[keyPath: part].isEmpty }
            return isGiven ? servers.map { $0[keyPath: part] }.joined(separator: ",") : keywords[key]
        }
        var keywords = keywords
        keywords["host"] = list("host", \.host)
        keywords["hostaddr"] = list("hostaddr", \.address)
        keywords["port"] = list("port", \.port)
        return keywords
    }

    /// The addresses of a name, in the order in which to try them; empty when it has none. Blocks, as libpq's own
    /// resolution does.
    static func addresses(of name: String) -> [String] {
        var hints = addrinfo()
        hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        var first: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(name, nil, &hints, &first) == 0 else { return [] }
        defer { freeaddrinfo(first) }
        var addresses: [String] = []
        var next = first
        while let entry = next?.pointee {
            var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            let size = socklen_t(text.count)
            if getnameinfo(entry.ai_addr, entry.ai_addrlen, &text, size, nil, 0, NI_NUMERICHOST) == 0 {
                let address = String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
                if !addresses.contains(address) { addresses.append(address) }
            }
            next = entry.ai_next
        }
        return addresses
    }
}
