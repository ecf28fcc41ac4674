import BreakwaterEndpoints

/// The reverse proxies whose `X-Forwarded-For` header is believed.
struct TrustedProxies: Sendable {
    private let ranges: [AddressRange]
    /// No client is behind more proxies than this.
    private static let mostProxies = 32

    /// - Parameter texts: Addresses and networks; others are left out.
    init(_ texts: [String]) { ranges = texts.compactMap(AddressRange.init) }

    /// Whether an address is one of these proxies'.
    func contains(_ address: ClientAddress) -> Bool { ranges.contains { $0.contains(address) } }

    /// The address for which a request was made.
    ///
    /// Each proxy appends the address that asked it. So the list is read from its end, for as long as its writers are
    /// trusted: an earlier entry may be made up.
    ///
    /// - Returns: Nil if it is unknown.
    func client(of request: WebRequest) -> ClientAddress? {
        guard var client = ClientAddress(request.peer) else { return nil }
        let list = (request.headers["x-forwarded-for"] ?? []).flatMap { $0.split(separator: ",") }
        for text in list.reversed().prefix(Self.mostProxies) {
            guard contains(client), let next = Self.address(text.trimmed) else { break }
            client = next
        }
        return client
    }

    /// An address, also one with a port, as some proxies write it: `192.0.2.7:4711`, `[2001:db8::7]:4711`.
    private static func address(_ text: String) -> ClientAddress? {
        if let address = ClientAddress(text) { return address }
        if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
            return ClientAddress(String(text[text.index(after: text.startIndex)..<end]))
        }
        return text.lastIndex(of: ":").flatMap { ClientAddress(String(text[..<$0])) }
    }
}
