import Foundation

/// Lines over a common x axis, one panel below the other, as a self-contained SVG document.
///
/// The document has no background. Its colours are readable on white and on black, and follow the reader's colour
/// scheme where the viewer supports that.
struct LineChart {
    struct Line {
        var name: String
        /// One value for each x. A value that is not finite leaves a gap.
        var values: [Double]
    }

    struct Panel {
        var title: String
        var unit: String
        var lines: [Line]
    }

    var title: String
    /// The x values in ascending order.
    var x: [Double]
    var xUnit: String
    var panels: [Panel]

    private static let width = 860.0
    private static let panelHeight = 150.0
    private static let (left, right, top, bottom) = (78.0, 130.0, 58.0, 30.0)
    private static let gap = 42.0
    private static let colours = ["#3b82c4", "#d9822b", "#3a9d5d", "#b05bb8", "#8a8f98"]

    var svg: String {
        let height =
            Self.top + Self.bottom + Double(panels.count) * (Self.panelHeight + Self.gap)
            - (panels.isEmpty ? 0 : Self.gap)
        var parts = [
            """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Self.text(Self.width)) \(Self.text(height))" \
            width="\(Self.text(Self.width))" height="\(Self.text(height))" role="img">
            <title>\(title.xmlText)</title>
            <style>
            text { font: 12px system-ui, 'DejaVu Sans', sans-serif; fill: #767b83 }
            .title { font-size: 15px; font-weight: 600 }
            .panel { font-weight: 600 }
            .grid { stroke: #8a8f98; stroke-opacity: .28; stroke-width: 1 }
            .axis { stroke: #8a8f98; stroke-width: 1 }
            .line { fill: none; stroke-width: 1.8; stroke-linejoin: round }
            @media (prefers-color-scheme: dark) { text { fill: #a9b0ba } }
            </style>
            """,
            Self.label(title, x: Self.left, y: 20, class: "title"),
        ]
        for (index, panel) in panels.enumerated() {
            parts += draw(panel, top: Self.top + Double(index) * (Self.panelHeight + Self.gap))
        }
        return (parts + ["</svg>\n"]).joined(separator: "\n")
    }

    // MARK: One panel

    private func draw(_ panel: Panel, top: Double) -> [String] {
        let bottom = top + Self.panelHeight
        let (xTicks, yTicks) = (AxisTicks(to: x.last ?? 0), AxisTicks(to: panel.lines.flatMap(\.values).finiteMaximum))
        func place(x value: Double) -> Double {
            Self.left + (Self.width - Self.left - Self.right) * value / max(x.last ?? 0, .leastNonzeroMagnitude)
        }
        func place(y value: Double) -> Double { bottom - Self.panelHeight * value / yTicks.limit }

        var parts = [Self.label("\(panel.title), \(panel.unit)", x: Self.left, y: top - 8, class: "panel")]
        for tick in yTicks.values {
            let y = place(y: tick)
            parts.append(Self.stroke(Self.left, y, Self.width - Self.right, y, class: tick == 0 ? "axis" : "grid"))
            parts.append(Self.label(yTicks.text(tick), x: Self.left - 8, y: y + 4, anchor: "end"))
        }
        for tick in xTicks.values where tick <= x.last ?? 0 {
            let x = place(x: tick)
            parts.append(Self.stroke(x, bottom, x, bottom + 4, class: "axis"))
            parts.append(Self.label(xTicks.text(tick), x: x, y: bottom + 17, anchor: "middle"))
        }
        parts.append(Self.label(xUnit, x: Self.width - Self.right + 8, y: bottom + 17))
        for (index, line) in panel.lines.enumerated() {
            let colour = Self.colours[index % Self.colours.count]
            parts.append(
                "<path class=\"line\" stroke=\"\(colour)\" d=\"\(path(line.values, x: place(x:), y: place(y:)))\"/>"
            )
            let y = top + 12 + Double(index) * 18
            let x = Self.width - Self.right + 12
            parts.append("<path class=\"line\" stroke=\"\(colour)\" d=\"M\(Self.text(x)),\(Self.text(y - 4))h16\"/>")
            parts.append(Self.label(line.name, x: x + 22, y: y))
        }
        return parts
    }

    /// The SVG path through the points, interrupted at the gaps.
    private func path(_ values: [Double], x place: (Double) -> Double, y: (Double) -> Double) -> String {
        var commands: [String] = []
        var isDown = false
        for (at, value) in zip(x, values) {
            if value.isFinite { commands.append("\(isDown ? "L" : "M")\(Self.text(place(at))),\(Self.text(y(value)))") }
            isDown = value.isFinite
        }
        return commands.joined()
    }

    // MARK: Elements

    private static func label(
        _ text: String,
        x: Double,
        y: Double,
        class style: String? = nil,
        anchor: String = "start"
    ) -> String {
        let style = style.map { " class=\"\($0)\"" } ?? ""
        return
            "<text x=\"\(Self.text(x))\" y=\"\(Self.text(y))\" text-anchor=\"\(anchor)\"\(style)>\(text.xmlText)</text>"
    }

    private static func stroke(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, class style: String) -> String {
        "<line class=\"\(style)\" x1=\"\(text(x1))\" y1=\"\(text(y1))\" x2=\"\(text(x2))\" y2=\"\(text(y2))\"/>"
    }

    /// The number rounded to a tenth, without a trailing zero.
    private static func text(_ number: Double) -> String {
        let text = String(format: "%.1f", number)
        return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
    }
}

/// Round numbers along an axis that begins at zero: three to six of them.
struct AxisTicks: Equatable {
    var step: Double
    var values: [Double]

    /// - Parameter maximum: The largest value; the last tick is at or above it.
    init(to maximum: Double) {
        let wanted = maximum > 0 && maximum.isFinite ? maximum : 1
        let rough = wanted / 4
        let magnitude = pow(10, floor(log10(rough)))
        let step = [1, 2, 2.5, 5, 10].map { $0 * magnitude }.first { $0 >= rough * 0.999 } ?? 10 * magnitude
        let count = Int((wanted / step).rounded(.up))
        self.step = step
        values = (0...max(count, 1)).map { Double($0) * step }
    }

    /// The value at which the axis ends.
    var limit: Double { values.last ?? 1 }

    /// The text of a tick's value, with as many decimal places as the step needs, `k` for thousands and `M` for
    /// millions.
    func text(_ value: Double) -> String {
        let (unit, name) = limit >= 10_000_000 ? (1e6, "M") : limit >= 10_000 ? (1e3, "k") : (1, "")
        guard value != 0 else { return "0" }
        let places = (0...3).first { abs((step / unit * pow(10, Double($0))).remainder(dividingBy: 1)) < 1e-6 } ?? 3
        return String(format: "%.\(places)f", value / unit) + name
    }
}

extension [Double] {
    fileprivate var finiteMaximum: Double { filter(\.isFinite).max() ?? 0 }
}

extension String {
    /// The string escaped for use as an element's text.
    fileprivate var xmlText: String {
        replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
    }
}
