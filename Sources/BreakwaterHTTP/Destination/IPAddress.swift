import CLibcurl  // for the fields of `sockaddr`
import Glibc

/// An IPv4 or IPv6 address. An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) is treated as the IPv4 address.
struct IPAddress: Sendable, Hashable, CustomStringConvertible {
    let isV6: Bool
    /// The address as a number; for IPv4, its 32 bits.
    let bits: UInt128

    private init(isV6: Bool, bits: UInt128) {
        // ::ffff:0:0/96
        let isMapped = isV6 && bits >> 32 == 0xFFFF
        self.isV6 = isV6 && !isMapped
        self.bits = isMapped ? bits & 0xFFFF_FFFF : bits
    }

    private init(_ address: in6_addr) {
        let bits = withUnsafeBytes(of: address) { UInt128(bigEndian: $0.loadUnaligned(as: UInt128.self)) }
        self.init(isV6: true, bits: bits)
    }

    static func v4(_ bits: UInt32) -> IPAddress { IPAddress(isV6: false, bits: UInt128(bits)) }

    /// An address in its usual notation; nil for a name.
    init?(_ text: String) {
        // A zone, as in fe80::1%eth0, names an interface and is not part of the address.
        let address = text.utf8.firstIndex(of: UInt8(ascii: "%")).map { String(text[..<$0]) } ?? text
        var v4 = in_addr()
        var v6 = in6_addr()
        if inet_pton(AF_INET, address, &v4) == 1 {
            self = .v4(UInt32(bigEndian: v4.s_addr))
        } else if inet_pton(AF_INET6, address, &v6) == 1 {
            self.init(v6)
        } else {
            return nil
        }
    }

    /// The address in a `sockaddr`; nil for other families.
    init?(_ address: UnsafeRawPointer, length: Int) {
        guard length >= MemoryLayout<sockaddr>.size else { return nil }
        switch Int32(address.loadUnaligned(as: sockaddr.self).sa_family) {
        case AF_INET where length >= MemoryLayout<sockaddr_in>.size:
            self = .v4(UInt32(bigEndian: address.loadUnaligned(as: sockaddr_in.self).sin_addr.s_addr))
        case AF_INET6 where length >= MemoryLayout<sockaddr_in6>.size:
            self.init(address.loadUnaligned(as: sockaddr_in6.self).sin6_addr)
        default:
            return nil
        }
    }

    var description: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        if isV6 {
            withUnsafeBytes(of: bits.bigEndian) {
                _ = inet_ntop(AF_INET6, $0.baseAddress, &text, socklen_t(INET6_ADDRSTRLEN))
            }
        } else {
            withUnsafeBytes(of: UInt32(bits).bigEndian) {
                _ = inet_ntop(AF_INET, $0.baseAddress, &text, socklen_t(INET6_ADDRSTRLEN))
            }
        }
        return text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }
}

/// A range of addresses, such as `10.0.0.0/8`. A single address is a network with one address.
struct IPNetwork: Sendable, Hashable {
    let address: IPAddress
    let prefixLength: Int

    /// A network in its usual notation; nil for anything else.
    init?(_ text: String) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = IPAddress(String(parts[0])) else { return nil }
        let width = address.isV6 ? 128 : 32
        self.address = address
        guard parts.count == 2 else {
            prefixLength = width
            return
        }
        // The prefix length of an IPv4-mapped network, such as ::ffff:10.0.0.0/104, includes 96 leading bits.
        let leading = !address.isV6 && parts[0].contains(":") ? 96 : 0
        guard parts[1].utf8.allSatisfy((UInt8(ascii: "0")...UInt8(ascii: "9")).contains), let length = Int(parts[1]),
            (0...width).contains(length - leading)
        else { return nil }
        prefixLength = length - leading
    }

    func contains(_ other: IPAddress) -> Bool {
        guard other.isV6 == address.isV6 else { return false }
        let shift = (address.isV6 ? 128 : 32) - prefixLength
        return shift == 128 || address.bits >> UInt128(shift) == other.bits >> UInt128(shift)
    }
}
