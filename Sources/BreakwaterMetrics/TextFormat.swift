/// The form of a metric for Prometheus.
enum Form {
    case counter, gauge, seconds, sizes

    /// The word after `# TYPE`.
    var type: String {
        switch self {
        case .counter: "counter"
        case .gauge: "gauge"
        case .seconds, .sizes: "histogram"
        }
    }

    /// The Prometheus name for a label of swift-metrics.
    func name(for label: String) -> String {
        let name = label.sanitized(allowingColon: true)
        return switch self {
        case .counter where !name.hasSuffix("_total"): name + "_total"
        case .seconds where !name.hasSuffix("_seconds"): name + "_seconds"
        default: name
        }
    }
}

/// The labels of a series, in the order of their names.
struct Labels: Hashable, Sendable {
    private var pairs: [String]

    init(_ dimensions: [(String, String)]) {
        // If two labels have the same name, the last one counts.
        let byName = Dictionary(dimensions.map { ($0.sanitized(allowingColon: false), $1) }) { _, last in last }
        pairs = byName.sorted { $0.key < $1.key }.map { Self.pair($0.key, $0.value) }
    }

    /// The labels in braces; empty if there are none.
    func text(adding more: (name: String, value: String)? = nil) -> String {
        let pairs = pairs + (more.map { [Self.pair($0.name, $0.value)] } ?? [])
        return pairs.isEmpty ? "" : "{\(pairs.joined(separator: ","))}"
    }

    private static func pair(_ name: String, _ value: String) -> String { "\(name)=\"\(value.escaped(quotes: true))\"" }
}

extension MetricsRegistry.Family {
    func write(name: String, to text: inout String) {
        text += "# HELP \(name) \(help.escaped(quotes: false))\n# TYPE \(name) \(form.type)\n"
        for (labels, series) in series.sorted(by: { $0.key.text() < $1.key.text() }) {
            series.write(name: name, labels: labels, to: &text)
        }
    }
}

extension Double {
    /// The number in Prometheus's format.
    var sample: String {
        if isNaN { return "NaN" }
        if isInfinite { return self > 0 ? "+Inf" : "-Inf" }
        if self == rounded(), magnitude < 1e15 { return "\(Int64(self))" }
        return "\(self)"
    }
}

extension String {
    /// The text with characters that Prometheus does not allow in a name replaced by `_`.
    fileprivate func sanitized(allowingColon: Bool) -> String {
        var name = ""
        for (place, scalar) in unicodeScalars.enumerated() {
            switch scalar {
            case "a"..."z", "A"..."Z", "_": name.unicodeScalars.append(scalar)
            case "0"..."9":
                if place == 0 { name += "_" }
                name.unicodeScalars.append(scalar)
            case ":" where allowingColon: name += ":"
            default: name += "_"
            }
        }
        return name.isEmpty ? "_" : name
    }

    /// The text escaped to one line, for a label's value or a help text.
    fileprivate func escaped(quotes: Bool) -> String {
        var text = ""
        for scalar in unicodeScalars {
            switch scalar {
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\"" where quotes: text += "\\\""
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text
    }
}
