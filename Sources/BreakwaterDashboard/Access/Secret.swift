import CLibcrypto

/// Random bytes, digests and comparisons, implemented by libcrypto and the system.
enum Secret {
    /// `count` random bytes in hexadecimal digits.
    static func random(bytes count: Int = 32) -> String {
        var generator = SystemRandomNumberGenerator()
        return hexadecimal((0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) })
    }

    /// HMAC-SHA256 in hexadecimal digits.
    static func code(of message: String, key: String) -> String {
        let (key, message) = (Array(key.utf8), Array(message.utf8))
        var code = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var length: UInt32 = 0
        HMAC(EVP_sha256(), key, Int32(key.count), message, message.count, &code, &length)
        return hexadecimal(code.prefix(Int(length)))
    }

    /// Whether two texts are equal. The time does not reveal where they differ.
    static func isSame(_ left: String, _ right: String) -> Bool { isSame(Array(left.utf8), Array(right.utf8)) }

    /// Whether two byte strings are equal. The time does not reveal where they differ.
    static func isSame(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        left.count == right.count && CRYPTO_memcmp(left, right, left.count) == 0
    }

    static func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
