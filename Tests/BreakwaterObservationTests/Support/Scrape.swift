import BreakwaterMetrics

/// The output of a registry, parsed again.
struct Scrape {
    private var samples: [String: Double] = [:]
    let text: String

    init(_ registry: MetricsRegistry) {
        text = registry.text()
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            guard let space = line.lastIndex(of: " ") else { continue }
            samples[String(line[..<space])] = Double(line[line.index(after: space)...])
        }
    }

    /// The value of a series. The series is written as in the text, with its labels in the order of their names.
    subscript(series: String) -> Double? { samples[series] }

    /// The names of all metrics that were scraped.
    var names: Set<String> {
        Set(text.split(separator: "\n").filter { $0.hasPrefix("# TYPE ") }.map { String($0.split(separator: " ")[2]) })
    }
}
