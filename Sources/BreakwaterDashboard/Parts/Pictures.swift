import BreakwaterAdmin
import Foundation

/// SVG pictures. Each has a text description, and distinguishes states by shape as well as by colour.
enum Pictures {
    /// Patterns that other drawings use.
    static let definitions = el(.svg, .class("definitions"), .named("aria-hidden", "true")) {
        el(.defs) {
            pattern("hatch-bad")
            pattern("hatch-warn")
        }
    }

    private static func pattern(_ id: String) -> HTML {
        el(
            .pattern,
            .id(id),
            .named("width", "4"),
            .named("height", "4"),
            .named("patternUnits", "userSpaceOnUse"),
            .named("patternTransform", "rotate(45)")
        ) {
            el(.rect, .class("ground"), .named("width", "4"), .named("height", "4"))
            el(.line, .named("x1", "1"), .named("x2", "1"), .named("y1", "0"), .named("y2", "4"))
        }
    }

    /// The logo: waves behind a wall.
    static let brand = el(.svg, .class("icon"), .named("viewBox", "0 0 24 24"), .named("aria-hidden", "true")) {
        el(.path, .named("d", "M2 9c2-3 4-3 6 0M2 14c2-3 4-3 6 0M2 19c2-3 4-3 6 0"))
        el(.line, .named("x1", "13"), .named("x2", "13"), .named("y1", "3"), .named("y2", "21"), .class("wall"))
        el(.line, .named("x1", "17"), .named("x2", "22"), .named("y1", "17"), .named("y2", "17"))
    }

    static let tick = el(.svg, .class("icon"), .named("viewBox", "0 0 24 24"), .named("aria-hidden", "true")) {
        el(.path, .named("d", "M5 13l4 4L19 7"))
    }

    static let cross = el(.svg, .class("icon"), .named("viewBox", "0 0 24 24"), .named("aria-hidden", "true")) {
        el(.path, .named("d", "M12 3v11M12 18v2"))
    }

    /// A circuit as a switch whose lever is down, up, or half-way.
    static func lever(_ state: String) -> HTML {
        let path =
            switch state {
            case "open": "M9 16 20 5"
            case "half_open": "M9 16 22 11"
            default: "M9 16H23"
            }
        return el(
            .svg,
            .class("lever is-\(CircuitFace(state).rawValue)"),
            .named("viewBox", "0 3 32 20"),
            .named("aria-hidden", "true")
        ) {
            el(.path, .class("wire"), .named("d", "M1 16H6M26 16H31"))
            el(.path, .class("arm"), .named("d", path))
            el(.circle, .named("cx", "8"), .named("cy", "16"), .named("r", "2.4"))
            el(.circle, .named("cx", "24"), .named("cy", "16"), .named("r", "2.4"))
        }
    }

    /// A window as columns, one for each part. Failures are hatched, and successes are on top of them.
    ///
    /// - Parameter threshold: The share of failures at which the circuit opens. A line in each column marks the height
    ///   of that share. Nil for no line.
    static func window(_ parts: [CallCounts], threshold: Double?, label: String) -> HTML {
        let highest = Double(max(1, parts.map { $0.succeeded + $0.failed }.max() ?? 1))
        let (width, height, gap) = (6.0, 48.0, 1.0)
        return el(
            .svg,
            .class("window"),
            .named("viewBox", "0 0 \((Double(parts.count) * width).svgText) \(height.svgText)"),
            .named("preserveAspectRatio", "none"),
            .named("role", "img"),
            .label(label)
        ) {
            for (place, part) in parts.enumerated() {
                let x = Double(place) * width + gap / 2
                let succeeded = Double(part.succeeded) / highest * (height - 2)
                let failed = Double(part.failed) / highest * (height - 2)
                el(
                    .rect,
                    .class("rest"),
                    .number("x", x),
                    .number("y", height - 1.5),
                    .number("width", width - gap),
                    .named("height", "1.5")
                )
                if part.failed > 0 {
                    bar("bad", x, height - failed, width - gap, failed)
                }
                if part.succeeded > 0 {
                    bar("good", x, height - failed - succeeded, width - gap, succeeded)
                }
                if let threshold, part.succeeded + part.failed > 0 {
                    let y = height - (succeeded + failed) * min(max(threshold, 0), 1)
                    el(
                        .line,
                        .class("threshold"),
                        .number("x1", x),
                        .number("x2", x + width - gap),
                        .number("y1", y),
                        .number("y2", y)
                    )
                }
            }
        }
    }

    private static func bar(_ name: String, _ x: Double, _ y: Double, _ width: Double, _ height: Double) -> HTML {
        el(
            .rect,
            .class(name),
            .number("x", x),
            .number("y", y),
            .number("width", width),
            .number("height", max(height, 1))
        )
    }

    /// A share of a whole, with a line at the threshold.
    static func gauge(_ value: Double, threshold: Double?, label: String) -> HTML {
        let isOver = threshold.map { value >= $0 } ?? false
        return el(
            .svg,
            .class("gauge"),
            .named("viewBox", "0 0 100 10"),
            .named("preserveAspectRatio", "none"),
            .named("role", "img"),
            .label(label)
        ) {
            el(.rect, .class("track"), .named("y", "3"), .named("width", "100"), .named("height", "4"))
            el(
                .rect,
                .class(isOver ? "bad" : "fill"),
                .named("y", "3"),
                .number("width", min(max(value, 0), 1) * 100),
                .named("height", "4")
            )
            if let threshold {
                let x = min(max(threshold, 0), 1) * 99.6 + 0.2
                el(
                    .line,
                    .class("threshold"),
                    .number("x1", x),
                    .number("x2", x),
                    .named("y1", "0"),
                    .named("y2", "10")
                )
            }
        }
    }

    /// A curve of values per minute, the oldest first, with its area filled.
    static func curve(_ values: [Double], class name: String, label: String) -> HTML {
        let highest = max(values.max() ?? 0, 1)
        let step = 240 / Double(max(values.count - 1, 1))
        let points = values.enumerated().map { place, value in
            "\((Double(place) * step).svgText),\((46 - value / highest * 43).svgText)"
        }
        return el(
            .svg,
            .class("curve \(name)"),
            .named("viewBox", "0 0 240 48"),
            .named("preserveAspectRatio", "none"),
            .named("role", "img"),
            .label(label)
        ) {
            el(.polygon, .named("points", "0,48 \(points.joined(separator: " ")) 240,48"))
            el(.polyline, .named("points", points.joined(separator: " ")))
        }
    }

    /// The states of a circuit over a time: closed is low, half-open medium, open full height. Even the shortest period
    /// is visible.
    static func history(_ stretches: [Stretch], label: String) -> HTML {
        el(
            .svg,
            .class("history"),
            .named("viewBox", "0 0 1000 16"),
            .named("preserveAspectRatio", "none"),
            .named("role", "img"),
            .label(label)
        ) {
            for stretch in stretches {
                let face = CircuitFace(stretch.state)
                let height =
                    switch face {
                    case .closed: 4.0
                    case .halfOpen: 10.0
                    case .open: 16.0
                    }
                let width = max((stretch.to - stretch.from) * 1000, face == .closed ? 0 : 4)
                el(
                    .rect,
                    .class("is-\(face.rawValue)"),
                    .number("x", min(stretch.from * 1000, 1000 - width)),
                    .number("y", 16 - height),
                    .number("width", width),
                    .number("height", height)
                )
            }
        }
    }
}

/// The appearance of a circuit's state.
enum CircuitFace: String {
    case closed, halfOpen = "half-open", open

    init(_ state: String) {
        switch state {
        case "open": self = .open
        case "half_open": self = .halfOpen
        default: self = .closed
        }
    }

    var title: String {
        switch self {
        case .closed: "Closed"
        case .halfOpen: "Half-open"
        case .open: "Open"
        }
    }
}

/// A period of a circuit's history in one state. Its ends are shares of the time shown.
struct Stretch: Equatable {
    var state: String
    var from: Double
    var to: Double

    /// The periods between transitions.
    ///
    /// - Parameters:
    ///   - transitions: The transitions of one circuit, in any order.
    ///   - state: The circuit's state now.
    ///   - span: The beginning and the end of the time shown.
    static func of(_ transitions: [RecordedTransition], state: String, from: Date, to: Date) -> [Stretch] {
        let length = max(to.timeIntervalSince(from), 1)
        let sorted = transitions.filter { $0.at > from && $0.at <= to }.sorted { $0.generation < $1.generation }
        var stretches: [Stretch] = []
        var begun = 0.0
        for transition in sorted where transition.from != transition.to {
            let at = min(max(transition.at.timeIntervalSince(from) / length, begun), 1)
            stretches.append(Stretch(state: transition.from, from: begun, to: at))
            begun = at
        }
        stretches.append(Stretch(state: state, from: begun, to: 1))
        return stretches
    }
}
