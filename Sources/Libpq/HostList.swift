/// The servers that a multi-host conninfo names, in order: libpq's `host`, `hostaddr` and `port` lists.
struct HostList: Equatable {
    private var hosts: [String]?
    private var addresses: [String]?
    private var ports: [String]?

    /// Reads the lists of `keywords`, or those of the environment where they are missing.
    init(_ keywords: [String: String], defaults: [String: String]) {
        func list(_ key: String) -> [String]? {
            (keywords[key] ?? defaults[key])?.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        }
        // A host given here makes libpq ignore nothing of the environment: PGHOSTADDR and PGPORT still count.
        hosts = list("host")
        addresses = list("hostaddr")
        ports = list("port")
    }

    /// How many servers there are to try.
    var count: Int { max(hosts?.count ?? 0, addresses?.count ?? 0, 1) }

    /// Leaves out the server that libpq calls by this name and port; false when it is not there or the only one.
    mutating func remove(host: String, port: String) -> Bool {
        let names = hosts ?? addresses ?? []
        // Lists that do not match are for libpq to refuse.
        guard count > 1, names.count == count, addresses?.count ?? count == count else { return false }
        let index = names.indices.first { index in
            let isHost = names[index] == host || addresses?[index] == host
            guard let ports, ports.count > 1 else { return isHost }
            return isHost && ports.indices.contains(index) && (ports[index].isEmpty || ports[index] == port)
        }
        guard let index else { return false }
        if ports?.count == count { ports?.remove(at: index) }
        hosts?.remove(at: index)
        addresses?.remove(at: index)
        return true
    }

    /// `keywords` with these servers.
    func applied(to keywords: [String: String]) -> [String: String] {
        var keywords = keywords
        keywords["host"] = hosts?.joined(separator: ",") ?? keywords["host"]
        keywords["hostaddr"] = addresses?.joined(separator: ",") ?? keywords["hostaddr"]
        keywords["port"] = ports?.joined(separator: ",") ?? keywords["port"]
        return keywords
    }
}
