/// Rows under headings, for people.
package struct Table {
    /// One column.
    package struct Column {
        /// The column's heading.
        var title: String
        /// Whether the cells are numbers, which are aligned to the right.
        var isNumber = false
        /// Whether the cells may be cut when the lines are too long.
        var canShrink = false
        /// Whether the column is left out when all its cells are empty.
        var isOptional = false

        package static func text(_ title: String, isOptional: Bool = false) -> Column {
            Column(title: title, isOptional: isOptional)
        }
        package static func number(_ title: String, isOptional: Bool = false) -> Column {
            Column(title: title, isNumber: true, isOptional: isOptional)
        }
        static func long(_ title: String, isOptional: Bool = false) -> Column {
            Column(title: title, canShrink: true, isOptional: isOptional)
        }
    }

    var columns: [Column]
    package var rows: [[String]]

    /// The least width to which a column is cut.
    private static let narrowest = 8

    package init(columns: [Column], rows: [[String]] = []) {
        self.columns = columns
        self.rows = rows
    }

    /// The lines of the table, without line feeds.
    ///
    /// Control characters in cells are escaped, because a job's data must not control a terminal.
    ///
    /// - Parameter width: The width of a line; nil when there is no terminal, so that nothing is cut.
    func lines(width: Int?) -> [String] {
        let needed = columns.indices.filter { column in
            !columns[column].isOptional || rows.contains { !$0[column].isEmpty }
        }
        guard needed.count == columns.count else {
            let rows = rows.map { row in needed.map { row[$0] } }
            return Table(columns: needed.map { columns[$0] }, rows: rows).lines(width: width)
        }
        let cells = rows.map { row in row.map { $0.isEmpty ? "-" : $0.escapingControlCharacters } }
        var widths = columns.indices.map { column in
            max(columns[column].title.displayWidth, cells.map { $0[column].displayWidth }.max() ?? 0)
        }
        if let width { shrink(&widths, toFit: width) }
        return ([columns.map(\.title)] + cells).map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                let text = cell.truncated(toWidth: widths[column])
                let padding = String(repeating: " ", count: widths[column] - text.displayWidth)
                let isLast = column == row.count - 1
                line += columns[column].isNumber ? padding + text : text + (isLast ? "" : padding)
                if !isLast { line += "  " }
            }
            return line
        }
    }

    /// Narrows the widest column that may be cut, until the line fits or no column can be narrowed further.
    private func shrink(_ widths: inout [Int], toFit width: Int) {
        let gaps = 2 * (columns.count - 1)
        while widths.reduce(gaps, +) > width {
            let widest = columns.indices
                .filter { columns[$0].canShrink && widths[$0] > Self.narrowest }
                .max { widths[$0] < widths[$1] }
            guard let widest else { return }
            widths[widest] -= 1
        }
    }
}

extension String {
    /// How many columns of a terminal the text takes. Wide characters, such as Chinese ones and emoji, take two.
    var displayWidth: Int {
        reduce(0) { $0 + $1.displayWidth }
    }

    /// The text itself, or its beginning and `…`.
    func truncated(toWidth width: Int) -> String {
        guard displayWidth > width else { return self }
        var text = ""
        var used = 1
        for character in self {
            used += character.displayWidth
            guard used <= width else { break }
            text.append(character)
        }
        return text + "…"
    }
}

extension Character {
    fileprivate var displayWidth: Int {
        guard let scalar = unicodeScalars.first else { return 0 }
        switch scalar.value {
        case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F,
            0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x1F300...0x1FAFF, 0x20000...0x3FFFD:
            return 2
        default:
            return 1
        }
    }
}
