package import Metrics

// Makes handles of swift-metrics from a metric's name and the values of its labels, in the order of its label names.
extension Metric {
    func counter(_ values: [String], in factory: any MetricsFactory) -> Counter {
        Counter(label: name, dimensions: dimensions(values), factory: factory)
    }

    package func counter(_ values: String..., in factory: any MetricsFactory) -> Counter {
        counter(values, in: factory)
    }

    func gauge(_ values: [String], in factory: any MetricsFactory) -> Gauge {
        Gauge(label: name, dimensions: dimensions(values), factory: factory)
    }

    func gauge(_ values: String..., in factory: any MetricsFactory) -> Gauge { gauge(values, in: factory) }

    func timer(_ values: String..., in factory: any MetricsFactory) -> Metrics.Timer {
        Timer(label: name, dimensions: dimensions(values), factory: factory)
    }

    func recorder(_ values: String..., in factory: any MetricsFactory) -> Recorder {
        Recorder(label: name, dimensions: dimensions(values), factory: factory)
    }

    private func dimensions(_ values: [String]) -> [(String, String)] {
        assert(values.count == labels.count, "\(name) has the labels \(labels)")
        return Array(zip(labels, values))
    }
}
