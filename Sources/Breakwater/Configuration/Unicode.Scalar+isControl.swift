extension Unicode.Scalar {
    /// Whether a terminal might interpret the scalar, or show something misleading: C0, DEL, C1, line separators, and
    /// invisible characters that change the direction of text or join it. The database refuses names with such
    /// characters; see `breakwater.has_control_characters`.
    package var isControl: Bool {
        switch value {
        case 0..<0x20, 0x7F..<0xA0, 0x61C, 0x200E...0x200F, 0x2028...0x202E, 0x2060...0x206F, 0xFEFF, 0xFFF9...0xFFFB:
            true
        default: false
        }
    }
}

extension String {
    /// Whether the text is a valid name of a queue or a kind.
    package var isName: Bool {
        SettingLimits.nameBytes.contains(utf8.count) && !unicodeScalars.contains { $0.isControl }
    }
}
