import BreakwaterEndpoints

/// The host names under which the dashboard may be requested.
///
/// Another site can make its own name resolve to the dashboard's address (DNS rebinding), so that a browser treats the
/// dashboard as a part of that site. The browser then sends that name as `Host`, and the request is refused.
struct AllowedHosts: Sendable {
    private let names: Set<String>
    private let addresses: [AddressRange]
    /// Whether any IP address is allowed as `Host`. A dashboard that listens on all addresses is requested under any of
    /// them, and DNS rebinding needs a name.
    private let allowsEveryAddress: Bool

    /// - Parameters:
    ///   - host: The address that the dashboard listens on.
    ///   - others: More names and addresses, without ports.
    init(listeningOn host: String, others: [String]) {
        let all = ["localhost", "127.0.0.0/8", "::1", host] + others
        addresses = all.compactMap(AddressRange.init)
        names = Set(all.map { $0.lowercased() })
        allowsEveryAddress = ["0.0.0.0", "::"].compactMap(ClientAddress.init).contains { $0 == ClientAddress(host) }
    }

    /// Whether a request's `Host` is an allowed name or address, with any port.
    func contain(_ header: String?) -> Bool {
        guard let name = header.flatMap(Self.nameOfHost) else { return false }
        guard let address = ClientAddress(name) else { return names.contains(name.lowercased()) }
        return allowsEveryAddress || addresses.contains { $0.contains(address) }
    }

    /// Whether a text is a name or an address without a port, as the configuration requires.
    static func isName(_ text: String) -> Bool {
        ClientAddress(text) != nil || text.wholeMatch(of: /[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*/) != nil
    }

    /// The host of `dashboard.example.com:8090`, or of `[::1]:8090` without its brackets; nil for any other form.
    private static func nameOfHost(_ header: String) -> String? {
        if header.hasPrefix("[") {
            guard let match = header.wholeMatch(of: /\[([0-9A-Fa-f:.]+)\](:\d{1,5})?/) else { return nil }
            return String(match.1)
        }
        return header.wholeMatch(of: /([^:\s\/]+?)\.?(:\d{1,5})?/).map { String($0.1) }
    }
}
