import BreakwaterAdmin
import Foundation

/// The fleet as one screenful: `worker status --watch`.
///
/// This is a pure value that makes the lines for a screen of any size. Rows that do not fit are left out, and a line
/// counts them.
struct FleetPicture {
    var status: FleetStatus
    var rates: [CallRate]
    /// The database, without passwords.
    var place: String
    var at: Date
    /// How long until the next picture.
    var interval: Duration
    /// The reason why the picture is outdated; nil if it is current.
    var problem: String?

    /// One part of the picture: a title, and lines below it. The first `headings` lines are headings.
    private struct Part {
        var title: String
        var lines: [String]
        var headings = 1
    }

    /// The lines, cut to the size of the screen.
    ///
    /// - Parameters:
    ///   - size: The size of the screen.
    ///   - isStyled: Whether titles are bold and problems are coloured.
    func lines(_ size: Screen.Size, isStyled: Bool) -> [String] {
        let top = [
            bold("worker status", isStyled) + "  \(place)  \(at.shortText)  every \(interval.shortText)  q ends",
            problem.map { red("! \($0)", isStyled) } ?? summary,
        ]
        let blocks = fitting(parts(width: size.width), in: max(0, size.height - top.count), isStyled: isStyled)
        return (top + blocks.joined()).prefix(size.height).map { $0.truncated(toColumns: size.width) }
    }

    /// The parts with as many rows as fit. Every part gets one row before any gets a second. If one row each does not
    /// fit, the last parts are left out.
    private func fitting(_ parts: [Part], in room: Int, isStyled: Bool) -> [[String]] {
        var blocks = parts.map { block($0, rows: 1, isStyled: isStyled) }
        while !blocks.isEmpty, blocks.reduce(0, { $0 + $1.count }) > room { blocks.removeLast() }
        var left = room - blocks.reduce(0) { $0 + $1.count }
        var rows = Array(repeating: 1, count: blocks.count)
        var hasGrown = true
        while left > 0, hasGrown {
            hasGrown = false
            for index in blocks.indices where left > 0 && rows[index] < parts[index].lines.count - parts[index].headings
            {
                rows[index] += 1
                blocks[index] = block(parts[index], rows: rows[index], isStyled: isStyled)
                left -= 1
                hasGrown = true
            }
        }
        return blocks
    }

    /// The depths and rates in one line.
    private var summary: String {
        let depths = status.depths
        let letters = status.deadLetters.reduce(0) { $0 + $1.count }
        return [
            "ready \(depths.reduce(0) { $0 + $1.ready }.groupedText)",
            "running \(depths.reduce(0) { $0 + $1.running }.groupedText)",
            "scheduled \(depths.reduce(0) { $0 + $1.scheduled }.groupedText)",
            "retrying \(depths.reduce(0) { $0 + $1.retrying }.groupedText)",
            "parked \(depths.reduce(0) { $0 + $1.parked }.groupedText)",
            "dead letters \(letters.groupedText)",
            "done \(rates.reduce(0) { $0 + $1.succeeded }.rateText)/s",
            "failed \(rates.reduce(0) { $0 + $1.failed }.rateText)/s",
        ].joined(separator: "  ")
    }

    /// The parts that are not empty, the most important first: circuits, suspensions and pauses come before the rest.
    private func parts(width: Int) -> [Part] {
        var parts = status.watchTables.map { Part(title: $0.title, lines: $0.table.lines(width: width)) }
        if status.circuits.isEmpty {
            parts.insert(Part(title: "CIRCUITS", lines: ["All circuits are closed."], headings: 0), at: 0)
        }
        if !rates.isEmpty {
            let place = parts.firstIndex { $0.title == "WORKERS" } ?? parts.endIndex
            parts.insert(
                Part(title: "RATES, OF THE LAST 10 S", lines: CallRate.table(rates).lines(width: width)),
                at: place
            )
        }
        let sentences = status.sentences.map(\.escapingControlCharacters)
        if !sentences.isEmpty { parts.append(Part(title: "NOTE", lines: sentences, headings: 0)) }
        return parts
    }

    /// A part with at most `rows` rows. If there are more, the last line says how many.
    private func block(_ part: Part, rows: Int, isStyled: Bool) -> [String] {
        let all = part.lines.count - part.headings
        let isCut = all > rows
        // The line with the number of further rows takes the place of a row.
        let count = isCut ? max(0, rows - 1) : all
        var lines = ["", bold(part.title, isStyled)] + part.lines.prefix(part.headings + count)
        if isCut { lines.append("… \((all - count).groupedText) more") }
        return lines
    }

    private func bold(_ text: String, _ isStyled: Bool) -> String { isStyled ? "\u{1B}[1m\(text)\u{1B}[0m" : text }
    private func red(_ text: String, _ isStyled: Bool) -> String { isStyled ? "\u{1B}[31m\(text)\u{1B}[0m" : text }
}

extension CallRate {
    static func table(_ rates: [CallRate]) -> Table {
        Table(
            columns: [
                .long("KIND"), .number("DONE/S"), .number("FAILED/S"), .number("SLOW/S"), .number("RETRIES/S"),
            ],
            rows: rates.map {
                [$0.kind, $0.succeeded.rateText, $0.failed.rateText, $0.slow.rateText, $0.retries.rateText]
            }
        )
    }

    var json: JSONValue {
        .object([
            "kind": .string(kind),
            "succeeded_per_second": .number(succeeded),
            "failed_per_second": .number(failed),
            "slow_per_second": .number(slow),
            "retries_per_second": .number(retries),
        ])
    }
}

extension Double {
    /// The number as a rate for people: `0`, `0.3`, `4.1`, `12`, `1,234`.
    fileprivate var rateText: String {
        guard self < 9.95 else { return Int(min(rounded(), 1e15)).groupedText }
        let tenths = Int((self * 10).rounded())
        return tenths % 10 == 0 ? "\(tenths / 10)" : "\(tenths / 10).\(tenths % 10)"
    }
}

extension String {
    /// The text itself, or as much of it as fits. Escape sequences for styles take no columns.
    fileprivate func truncated(toColumns width: Int) -> String {
        guard contains("\u{1B}") else { return truncated(toWidth: width) }
        var text = ""
        var used = 0
        var isSequence = false
        for character in self {
            if character == "\u{1B}" { isSequence = true }
            if isSequence {
                text.append(character)
                if character == "m" { isSequence = false }
                continue
            }
            used += String(character).displayWidth
            // Escape sequences after the cut are kept, because they end a style.
            if used < width || (used == width && displayWidthWithoutStyle <= width) {
                text.append(character)
            } else if used == width {
                text.append("…")
            }
        }
        return text
    }

    private var displayWidthWithoutStyle: Int {
        replacing(/\u{1B}\[[0-9;]*m/, with: "").displayWidth
    }
}
