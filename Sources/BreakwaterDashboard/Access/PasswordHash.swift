import CLibcrypto
import Foundation

/// A password as it may be written down: `$scrypt$ln=17,r=8,p=1$SALT$HASH`, salt and hash in Base64.
///
/// scrypt with N = 2^17, r = 8, p = 1, the minimum of OWASP's Password Storage Cheat Sheet, takes 128 MiB and some
/// tenths of a second: much for an attacker who tries many passwords, little for a user who logs in.
public struct PasswordHash: Sendable, Hashable {
    /// As it is written down.
    public var text: String

    private var cost: UInt64
    private var blockSize: UInt64
    private var parallelism: UInt64
    private var salt: [UInt8]
    private var hash: [UInt8]

    /// What OWASP names as equally good: the least p for each binary logarithm of N, with r = 8.
    private static let minimums: [(cost: UInt64, parallelism: UInt64)] = [(17, 1), (16, 2), (15, 3), (14, 5), (13, 10)]

    /// Hashes a password, with a salt of its own.
    ///
    /// - Parameter password: 1 to 1,024 bytes of UTF-8; a longer password is refused at login.
    public init(password: String) { self.init(password: password, cost: Self.minimums[0].cost) }

    /// The same with another cost, for tests that log in many times.
    init(password: String, cost: UInt64) {
        self.cost = 1 << cost
        blockSize = 8
        parallelism = 1
        salt = Self.random(16)
        hash = Self.scrypt(password, salt, self.cost, blockSize, parallelism, length: 32) ?? []
        text = "$scrypt$ln=\(cost),r=8,p=1$\(Data(salt).base64EncodedString())$\(Data(hash).base64EncodedString())"
    }

    /// A hash that no password has, and that takes as much work as another.
    init(like other: PasswordHash) {
        self = other
        salt = Self.random(16)
        hash = Self.random(32)
        text = ""
    }

    /// Whether it takes enough work to guess the password from it: scrypt with N = 2^17, r = 8, p = 1, or what OWASP
    /// names as equally good. The dashboard refuses others.
    public var isStrong: Bool {
        blockSize >= 8 && Self.minimums.contains { cost >= 1 << $0.cost && parallelism >= $0.parallelism }
    }

    /// How much work a guess is, in units of its own.
    var work: UInt64 { cost * blockSize * parallelism }

    /// Reads one that was written down.
    ///
    /// - Returns: Nil when it is not such a hash, or asks for more than 1 GiB of memory.
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

    /// Whether it is this password's. It takes as long either way.
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
    /// Not the hash: it belongs in no log.
    public var description: String { "PasswordHash" }
    /// A mirror without children, since the fields hold the hash.
    public var customMirror: Mirror { Mirror(self, children: []) }
}
