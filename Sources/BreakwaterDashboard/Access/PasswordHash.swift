import CLibcrypto
import Foundation

/// A hashed password: `$scrypt$ln=17,r=8,p=1$SALT$HASH`, with salt and hash in Base64.
///
/// scrypt with N = 2^17, r = 8, p = 1, the minimum of OWASP's Password Storage Cheat Sheet, takes 128 MiB and some
/// tenths of a second. That is expensive for an attacker who tries many passwords, and cheap for a user who logs in.
public struct PasswordHash: Sendable, Hashable {
    /// The text form of the hash.
    public var text: String

    private var cost: UInt64
    private var blockSize: UInt64
    private var parallelism: UInt64
    private var salt: [UInt8]
    private var hash: [UInt8]

    /// The parameters that OWASP recommends as equivalent: the least p for each binary logarithm of N, with r = 8.
    private static let minimums: [(cost: UInt64, parallelism: UInt64)] = [(17, 1), (16, 2), (15, 3), (14, 5), (13, 10)]

    /// Hashes a password with a new random salt.
    ///
    /// - Parameter password: 1 to 1,024 bytes of UTF-8; a longer password is refused at login.
    public init(password: String) { self.init(password: password, cost: Self.minimums[0].cost) }

    /// Hashes a password with another cost, for tests that log in many times.
    init(password: String, cost: UInt64) {
        self.cost = 1 << cost
        blockSize = 8
        parallelism = 1
        salt = Self.random(16)
        hash = Self.scrypt(password, salt, self.cost, blockSize, parallelism, length: 32) ?? []
        text = "$scrypt$ln=\(cost),r=8,p=1$\(Data(salt).base64EncodedString())$\(Data(hash).base64EncodedString())"
    }

    /// A hash that matches no password, and that costs the same work to check as another hash.
    init(like other: PasswordHash) {
        self = other
        salt = Self.random(16)
        hash = Self.random(32)
        text = ""
    }

    /// Whether guessing the password costs enough work: scrypt with N = 2^17, r = 8, p = 1, or parameters that OWASP
    /// names as equivalent. The dashboard refuses weaker hashes.
    public var isStrong: Bool {
        blockSize >= 8 && Self.minimums.contains { cost >= 1 << $0.cost && parallelism >= $0.parallelism }
    }

    /// The work of one guess, for comparisons between hashes.
    var work: UInt64 { cost * blockSize * parallelism }

    /// Parses the text form of a hash.
    ///
    /// - Returns: Nil when the text is not such a hash, or its parameters need more than 1 GiB of memory.
    public init?(_ text: String) {
        let parts = text.split(separator: "$", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[0].isEmpty, parts[1] == "scrypt" else { return nil }
        guard let costs = parts[2].wholeMatch(of: /ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,2})/),
            let ln = UInt64(costs.1), let blockSize = UInt64(costs.2), let parallelism = UInt64(costs.3),
            (10...20).contains(ln), (1...32).contains(blockSize), (1...16).contains(parallelism),
            let salt = Data(base64Encoded: String(parts[3])), salt.count >= 8,
            let hash = Data(base64Encoded: String(parts[4])), (16...64).contains(hash.count)
        else { return nil }
        guard 128 * blockSize << ln <= 1 << 30 else { return nil }
        self.text = text
        cost = 1 << ln
        self.blockSize = blockSize
        self.parallelism = parallelism
        self.salt = Array(salt)
        self.hash = Array(hash)
    }

    /// Whether this is the hash of a password. The time does not depend on the result.
    public func matches(_ password: String) -> Bool {
        guard password.utf8.count <= 1024,
            let other = Self.scrypt(password, salt, cost, blockSize, parallelism, length: hash.count)
        else { return false }
        return Secret.isSame(other, hash)
    }

    /// The message for a hash that is not strong enough.
    package static let weakness = """
        the password is hashed with less work than is safe today (scrypt with N = 2^17, r = 8, p = 1); \
        hash it again with `worker dashboard hash-password`
        """

    private static func random(_ count: Int) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }

    private static func scrypt(
        _ password: String,
        _ salt: [UInt8],
        _ cost: UInt64,
        _ blockSize: UInt64,
        _ parallelism: UInt64,
        length: Int
    ) -> [UInt8]? {
        let password = password.utf8.map { CChar(bitPattern: $0) }
        var key = [UInt8](repeating: 0, count: length)
        let memory = 128 * blockSize * (cost + parallelism + 2) + (1 << 20)
        let code = EVP_PBE_scrypt(
            password,
            password.count,
            salt,
            salt.count,
            cost,
            blockSize,
            parallelism,
            memory,
            &key,
            key.count
        )
        return code == 1 ? key : nil
    }
}

extension PasswordHash: CustomStringConvertible, CustomReflectable {
    /// The description does not show the hash, so that no log contains it.
    public var description: String { "PasswordHash" }
    /// A mirror without children, since the fields hold the hash.
    public var customMirror: Mirror { Mirror(self, children: []) }
}
