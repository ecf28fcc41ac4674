/// The rules for the addresses that a handler may connect to.
///
/// Each resolution of the URL's host name must be checked, because the owner of a name can point it into the operator's
/// private network. A cloud's metadata service gives credentials to every client, so its addresses and names are also
/// refused in the URL itself.
struct DestinationPolicy: Sendable {
    private enum Host: Sendable {
        /// An address in the URL is allowed, unless it is that of a cloud's metadata service.
        case address(IPAddress)
        /// `localhost` may resolve to this machine.
        case localhost
        /// A name may only resolve to public addresses.
        case name
        /// A name on the allow-list may resolve to any address.
        case allowedName
    }

    private let host: Host
    private let networks: [IPNetwork]

    /// - Parameters:
    ///   - host: The URL's host.
    ///   - allow: Host names, addresses and networks that are allowed in addition.
    ///   - isFromOperator: Whether the operator wrote the URL. If a payload or a customer gave it, an address or
    ///     `localhost` in it is treated as a name that resolves to that address. Defaults to true.
    /// - Throws: ``HTTPPluginError`` for an entry that is none of these, or when the host is a cloud's metadata service
    ///   and is not among them.
    init(host: String, allow: [String], isFromOperator: Bool = true) throws {
        var names: Set<String> = []
        var networks: [IPNetwork] = []
        for entry in allow {
            if let network = IPNetwork(entry) {
                networks.append(network)
            } else if !entry.isEmpty, entry.utf8.allSatisfy(\.isHostCharacter) {
                names.insert(entry.lowercased())
            } else {
                throw HTTPPluginError(
                    .invalidAllowance,
                    "\(entry.debugDescription) cannot be allowed: write a host name in ASCII, an address, or a network such "
                        + "as 10.0.0.0/8"
                )
            }
        }
        self.networks = networks
        if let address = IPAddress(host) {
            if SpecialNetworks.isMetadataService(address), !networks.contains(where: { $0.contains(address) }) {
                throw Self.metadataService(host)
            }
            // An address on the list of names is allowed as one of its networks.
            self.host = isFromOperator ? .address(address) : .name
        } else if names.contains(host) {
            self.host = .allowedName
        } else if SpecialNetworks.metadataHosts.contains(host.hasSuffix(".") ? String(host.dropLast()) : host) {
            throw Self.metadataService(host)
        } else {
            let isLocal = host == "localhost" || host.hasSuffix(".localhost")
            self.host = isLocal && isFromOperator ? .localhost : .name
        }
    }

    private static func metadataService(_ host: String) -> HTTPPluginError {
        HTTPPluginError(
            .refusedHost,
            "the url's host '\(host)' is a cloud's metadata service; to send jobs there anyway, list it in 'allow'"
        )
    }

    /// The reason why the address is refused; nil if connecting to it is allowed.
    func refusal(of address: IPAddress) -> String? {
        let isMeant =
            switch host {
            case .address(let own): own == address
            case .localhost: SpecialNetworks.kind(of: address) == "loopback"
            case .allowedName: true
            case .name: false
            }
        if isMeant || networks.contains(where: { $0.contains(address) }) { return nil }
        return SpecialNetworks.kind(of: address).map { "\(address) is \($0)" }
    }
}

extension UInt8 {
    /// Whether the byte is ASCII, and is neither white space nor a character that ends the host in a URL.
    fileprivate var isHostCharacter: Bool { (0x21..<0x7F).contains(self) && !"/:@?#%*".utf8.contains(self) }
}
