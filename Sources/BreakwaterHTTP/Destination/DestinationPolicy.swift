/// Which addresses a handler may connect to.
///
/// The URL names the host, so only what that name resolves to needs judging, each time it is resolved: a name can be
/// pointed at the inside of one's network (or at a cloud's metadata service) by whoever owns it.
struct DestinationPolicy: Sendable {
    private enum Host: Sendable {
        /// An address in the URL is meant as it stands.
        case address(IPAddress)
        /// `localhost` is meant to be this machine.
        case localhost
        /// A name that may resolve to the public internet only.
        case name
        /// A name that is listed as allowed may resolve to anything.
        case allowedName
    }

    private let host: Host
    private let networks: [IPNetwork]

    /// - Parameters:
    ///   - host: The URL's host.
    ///   - allow: Host names, addresses and networks that are allowed beside.
    /// - Throws: ``HTTPPluginError`` for an entry that is none of these.
    init(host: String, allow: [String]) throws {
        var names: Set<String> = []
        var networks: [IPNetwork] = []
        for entry in allow {
            if let network = IPNetwork(entry) {
                networks.append(network)
            } else if !entry.isEmpty, !entry.utf8.contains(where: { " /:@?#%*".utf8.contains($0) || $0 < 0x20 }) {
                names.insert(entry.lowercased())
            } else {
                throw HTTPPluginError(
                    .invalidAllowance,
                    "\(entry.debugDescription) cannot be allowed: write a host name, an address, or a network such as "
                        + "10.0.0.0/8"
                )
            }
        }
        self.networks = networks
        if let address = IPAddress(host) {
            self.host = .address(address)
        } else if names.contains(host) {
            self.host = .allowedName
        } else {
            self.host = host == "localhost" || host.hasSuffix(".localhost") ? .localhost : .name
        }
    }

    /// Why the address is refused, or nil when it may be connected to.
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
