import BreakwaterEndpoints

/// The names under which the dashboard may be asked for.
///
/// A page elsewhere can have its own name point here (DNS rebinding), and a browser then takes the dashboard for a part
/// of that page. It asks under that name, and is refused.
struct AllowedHosts: Sendable {
    private let names: Set<String>
    private let addresses: [AddressRange]
    /// Rebinding takes a name. One that listens everywhere is asked under any of the machine's addresses.
    private let takesEveryAddress: Bool

    /// - Parameters:
    ///   - host: Where the dashboard listens.
    ///   - others: More names and addresses, without ports.
    init(listeningOn host: String, others: [String]) {
        let all = ["localhost", "127.0.0.0/8", "::1", host] + others
        addresses = all.compactMap(AddressRange.init)
        names = Set(all.map { $0.lowercased() })
        takesEveryAddress = ["0.0.0.0", "::"].compactMap(ClientAddress.init).contains { $0 == ClientAddress(host) }
    }

    /// Whether a request's `Host` is one of them, with any port.
    func contain(_ header: String?) -> Bool {
        guard let name = header.flatMap(Self.nameOfHost) else { return false }
        guard let address = ClientAddress(name) else { return names.contains(name.lowercased()) }
        return takesEveryAddress || addresses.contains { $0.contains(address) }
    }

    /// Whether a text can stand in the configuration: a name or an address, without a port.
    static func isName(_ text: String) -> Bool {
        ClientAddress(text) != nil || text.wholeMatch(of: /[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*/) != nil
    }

    /// `dashboard.example.com:8090` without the port, `[::1]:8090` without that and the brackets; nil for what is
    /// neither.
    private static func nameOfHost(_ header: String) -> String? {
        if header.hasPrefix("[") {
            guard let match = header.wholeMatch(of: /\[([0-9A-Fa-f:.]+)\](:\d{1,5})?/) else { return nil }
            return String(match.1)
        }
        return header.wholeMatch(of: /([^:\s\/]+?)\.?(:\d{1,5})?/).map { String($0.1) }
    }
}
