import Foundation

/// An IP address. `::ffff:127.0.0.1` and `127.0.0.1` are equal.
package struct ClientAddress: Hashable, Sendable {
    /// Four bytes of IPv4, or sixteen of IPv6.
    fileprivate let bytes: [UInt8]

    fileprivate init(bytes: [UInt8]) { self.bytes = bytes }

    /// Reads an address, without a port and without brackets.
    package init?(_ text: String) {
        var four = in_addr()
        var six = in6_addr()
        if inet_pton(AF_INET, text, &four) == 1 {
            bytes = withUnsafeBytes(of: &four) { Array($0) }
        } else if inet_pton(AF_INET6, text, &six) == 1 {
            let all = withUnsafeBytes(of: &six) { Array($0) }
            let isMapped = all.prefix(12) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]
            bytes = isMapped ? Array(all.dropFirst(12)) : all
        } else {
            return nil
        }
    }

    /// The unit that counts as one client: an IPv4 address, or an IPv6 network of 64 bits, because a client can use any
    /// address of such a network.
    package var client: ClientAddress {
        bytes.count == 4 ? self : ClientAddress(bytes: bytes.prefix(8) + [UInt8](repeating: 0, count: 8))
    }
}

extension ClientAddress: CustomStringConvertible {
    /// The address in the form that is parsed.
    package var description: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        let family = bytes.count == 4 ? AF_INET : AF_INET6
        guard inet_ntop(family, bytes, &text, socklen_t(text.count)) != nil else { return "?" }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// An address, or all addresses of a network: `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`.
package struct AddressRange: Hashable, Sendable {
    private let first: ClientAddress
    private let bits: Int

    /// Reads an address, or an address with a prefix length.
    package init?(_ text: String) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard let first = ClientAddress(parts[0]) else { return nil }
        let all = first.bytes.count * 8
        guard let bits = parts.count > 1 ? Int(parts[1]) : all, (0...all).contains(bits) else { return nil }
        self.first = first
        self.bits = bits
    }

    /// Whether the address is in the range.
    package func contains(_ address: ClientAddress) -> Bool {
        guard address.bytes.count == first.bytes.count else { return false }
        return first.bytes.indices.allSatisfy { index in
            let counted = min(8, max(0, bits - index * 8))
            let mask = UInt8(truncatingIfNeeded: 0xFF << (8 - counted))
            return first.bytes[index] & mask == address.bytes[index] & mask
        }
    }
}
