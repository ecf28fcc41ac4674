import BreakwaterEndpoints

/// The reverse proxies whose `X-Forwarded-For` header is trusted.
struct TrustedProxies: Sendable {
    private let ranges: [AddressRange]
    /// The most proxies in a row that are evaluated.
    private static let mostProxies = 32

    /// - Parameter texts: Addresses and networks. Anything else is ignored.
    init(_ texts: [String]) { ranges = texts.compactMap(AddressRange.init) }

    /// Whether an address belongs to one of these proxies.
    func contains(_ address: ClientAddress) -> Bool { ranges.contains { $0.contains(address) } }

    /// The address of the client that made a request.
    ///
    /// Each proxy appends the address of its own client. So the list is read from its end, as long as the address that
    /// wrote an entry is trusted. Earlier entries may be forged.
    ///
    /// - Returns: The address; nil if it is unknown.
    func client(of request: WebRequest) -> ClientAddress? {
        guard var client = ClientAddress(request.peer) else { return nil }
        let list = (request.headers["x-forwarded-for"] ?? []).flatMap { $0.split(separator: ",") }
        for text in list.reversed().prefix(Self.mostProxies) {
            guard contains(client), let next = Self.address(text.trimmed) else { break }
            client = next
        }
        return client
    }

    /// Parses an address that may have a port, as some proxies write it: `192.0.2.7:4711`, `[2001:db8::7]:4711`.
    private static func address(_ text: String) -> ClientAddress? {
        if let address = ClientAddress(text) { return address }
        if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
            return ClientAddress(String(text[text.index(after: text.startIndex)..<end]))
        }
        return text.lastIndex(of: ":").flatMap { ClientAddress(String(text[..<$0])) }
    }
}
