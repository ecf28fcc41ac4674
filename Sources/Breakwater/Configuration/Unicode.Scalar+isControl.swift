extension Unicode.Scalar {
    /// Whether a terminal might act on it, or show something else than is there: C0, DEL, C1, line separators, and
    /// the characters that change the direction of text or join it unseen. The database refuses names with them; see
    /// `breakwater.has_control_characters`.
    package var isControl: Bool {
        switch value {
        case 0..<0x20, 0x7F..<0xA0, 0x61C, 0x200E...0x200F, 0x2028...0x202E, 0x2060...0x206F, 0xFEFF, 0xFFF9...0xFFFB:
            true
        default: false
        }
    }
}

extension String {
    /// Whether it can name a queue or a kind.
    package var isName: Bool { (1...200).contains(utf8.count) && !unicodeScalars.contains { $0.isControl } }
}
