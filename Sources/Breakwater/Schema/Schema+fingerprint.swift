extension Schema {
    /// A text that differs whenever any migration does.
    package static var fingerprint: String {
        fingerprint(of: Migration.all.flatMap { [$0.name] + $0.files.flatMap { [$0.name, $0.sql] } })
    }

    /// FNV-1a over some texts, in hexadecimal.
    package static func fingerprint(of texts: [String]) -> String {
        let hash = texts.joined(separator: "\u{1F}").utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { hash, byte in
            (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3
        }
        return String(hash, radix: 16)
    }
}
