/// The ranges of addresses that are not the public internet.
///
/// From the IANA registries of special-purpose addresses:
/// https://www.iana.org/assignments/iana-ipv4-special-registry and …/iana-ipv6-special-registry
enum SpecialNetworks {
    /// Whether this is the address of a cloud's metadata service, which also serves credentials.
    static func isMetadataService(_ address: IPAddress) -> Bool {
        if nat64.contains(address) { return isMetadataService(.v4(UInt32(truncatingIfNeeded: address.bits))) }
        return metadataServices.contains { $0.contains(address) }
    }

    /// The kind of network that the address belongs to; nil for the public internet.
    static func kind(of address: IPAddress) -> String? {
        if isMetadataService(address) { return "a cloud's metadata service" }
        if let (_, kind) = networks.first(where: { $0.0.contains(address) }) { return kind }
        // Translated addresses are classified by the IPv4 address that they contain.
        if nat64.contains(address) { return kind(of: .v4(UInt32(truncatingIfNeeded: address.bits))) }
        if sixToFour.contains(address) { return kind(of: .v4(UInt32(truncatingIfNeeded: address.bits >> 80))) }
        return nil
    }

    static let nat64 = IPNetwork(prefix: "64:ff9b::/96")
    static let sixToFour = IPNetwork(prefix: "2002::/16")

    /// The addresses of clouds' metadata services.
    static let metadataServices = [
        // AWS, Azure, DigitalOcean, Google, Hetzner, OpenStack and Oracle use this one.
        "169.254.169.254/32",
        // AWS ECS and EKS serve the credentials of containers here.
        "169.254.170.2/32", "169.254.170.23/32", "fd00:ec2::23/128",
        // AWS and Google over IPv6.
        "fd00:ec2::254/128", "fd20:ce::254/128",
        // Alibaba Cloud.
        "100.100.100.200/32",
        // Azure's host has this public address.
        "168.63.129.16/32",
        // Oracle, in earlier versions.
        "192.0.0.192/32",
        // Tencent Cloud.
        "169.254.0.23/32",
        // Scaleway.
        "169.254.42.42/32", "fd00:42::42/128",
    ].map { IPNetwork(prefix: $0) }

    /// The host names of clouds' metadata services, without the final dot.
    static let metadataHosts: Set<String> = [
        "instance-data.ec2.internal", "metadata.azure.internal", "metadata.goog", "metadata.google.internal",
        "metadata.packet.net", "metadata.platformequinix.com", "metadata.tencentyun.com",
    ]

    static let networks: [(IPNetwork, String)] = [
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "this host"),
        ("::1/128", "loopback"),
        ("::/96", "reserved"),
        ("64:ff9b:1::/48", "private"),
        ("100::/64", "reserved"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation"),
        ("3fff::/20", "for documentation"),
        ("5f00::/16", "reserved"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    ].map { (IPNetwork(prefix: $0), $1) }
}

extension IPNetwork {
    /// A network written in this source.
    fileprivate init(prefix: String) {
        guard let network = IPNetwork(prefix) else { preconditionFailure("\(prefix) is not a network") }
        self = network
    }
}
