import Foundation

/// The configuration of the export of spans, according to OpenTelemetry's standard environment variables.
///
/// | variable | default | |
/// |---|---|---|
/// | `OTEL_EXPORTER_OTLP_ENDPOINT` | `http://localhost:4318` | the collector's base URL |
/// | `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` | the base and `/v1/traces` | the whole URL |
/// | `OTEL_EXPORTER_OTLP_HEADERS`, `…_TRACES_HEADERS` | none | `name=value,…`, values percent-encoded |
/// | `OTEL_EXPORTER_OTLP_TIMEOUT`, `…_TRACES_TIMEOUT` | `10000` | milliseconds for one request |
/// | `OTEL_EXPORTER_OTLP_CERTIFICATE`, `…_TRACES_CERTIFICATE` | the system's | certificate authorities, PEM |
/// | `OTEL_EXPORTER_OTLP_PROTOCOL`, `…_TRACES_PROTOCOL` | `http/json` | no other is supported |
/// | `OTEL_SERVICE_NAME` | `breakwater` | |
/// | `OTEL_RESOURCE_ATTRIBUTES` | none | `name=value,…` |
/// | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | `parentbased_always_on` | |
/// | `OTEL_BSP_SCHEDULE_DELAY` | `5000` | milliseconds that a span waits for a full batch |
/// | `OTEL_BSP_MAX_QUEUE_SIZE` | `2048` | the most spans that wait; more are dropped |
/// | `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` | `512` | spans in one request |
/// | `OTEL_TRACES_EXPORTER` | `otlp` | `none` for no spans |
/// | `OTEL_SDK_DISABLED` | `false` | `true` for no spans |
public struct OTLPConfiguration: Sendable {
    /// The whole URL that spans are sent to.
    public var url: String
    /// Headers of every request, such as a token.
    public var headers: [String: String] = [:]
    /// The timeout of one request. Defaults to 10 seconds.
    public var timeout = Duration.seconds(10)
    /// A PEM file of certificate authorities that replace the system's. Defaults to none.
    public var caFile: String?
    /// The attributes that describe the process, including its name.
    public var resource: [String: String] = ["service.name": "breakwater"]
    /// How long a span waits for a full batch. Defaults to 5 seconds.
    public var delay = Duration.seconds(5)
    /// The most spans that wait. Defaults to 2048.
    public var queueLimit = 2048
    /// The most spans in one request. Defaults to 512.
    public var batchSize = 512
    /// Warnings about invalid variables, which were ignored.
    public private(set) var warnings: [String] = []
    var sampler = Sampler.parentBased(.alwaysOn)

    /// - Parameter endpoint: The collector's base URL, such as `http://collector:4318`.
    public init(endpoint: String) {
        url = Self.url(atBase: endpoint)
    }

    /// Reads the standard variables.
    ///
    /// - Parameters:
    ///   - environment: All variables.
    ///   - endpoint: A base URL that takes precedence over those of the environment.
    /// - Returns: Nil when neither names an endpoint, or when the environment switches traces off.
    public init?(environment: [String: String], endpoint: String? = nil) {
        let environment = environment.filter { !$0.value.isEmpty }
        guard environment["OTEL_SDK_DISABLED"]?.lowercased() != "true", environment["OTEL_TRACES_EXPORTER"] != "none"
        else {
            return nil
        }
        if let endpoint {
            self.init(endpoint: endpoint)
        } else if let url = environment["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] {
            self.init(endpoint: "")
            self.url = url
        } else if let base = environment["OTEL_EXPORTER_OTLP_ENDPOINT"] {
            self.init(endpoint: base)
        } else {
            return nil
        }
        func value(_ name: String) -> String? {
            environment["OTEL_EXPORTER_OTLP_TRACES_\(name)"] ?? environment["OTEL_EXPORTER_OTLP_\(name)"]
        }
        headers = Self.pairs(environment["OTEL_EXPORTER_OTLP_HEADERS"])
            .merging(Self.pairs(environment["OTEL_EXPORTER_OTLP_TRACES_HEADERS"])) { $1 }
        caFile = value("CERTIFICATE")
        resource.merge(Self.pairs(environment["OTEL_RESOURCE_ATTRIBUTES"])) { $1 }
        if let name = environment["OTEL_SERVICE_NAME"] { resource["service.name"] = name }

        if let given = value("PROTOCOL"), given != "http/json" {
            warnings.append(
                "OTEL_EXPORTER_OTLP_PROTOCOL is '\(given)'; only http/json is spoken, and that is what is sent"
            )
        }
        if let given = value("COMPRESSION"), given != "none" {
            warnings.append("OTEL_EXPORTER_OTLP_COMPRESSION is '\(given)'; spans are sent uncompressed")
        }
        if let name = environment["OTEL_TRACES_SAMPLER"] {
            if let given = Sampler(name: name, argument: environment["OTEL_TRACES_SAMPLER_ARG"]) {
                sampler = given
            } else {
                warnings.append("OTEL_TRACES_SAMPLER '\(name)' is not known; parentbased_always_on holds")
            }
        }
        func whole(_ name: String, _ text: String?, _ take: (Int) -> Void) {
            guard let text else { return }
            if let number = Int(text), number > 0, number <= 1_000_000_000 {
                take(number)
            } else {
                warnings.append("\(name) is '\(text)'; give a whole number above 0")
            }
        }
        whole("OTEL_EXPORTER_OTLP_TIMEOUT", value("TIMEOUT")) { timeout = .milliseconds($0) }
        for (name, key) in [
            ("OTEL_BSP_SCHEDULE_DELAY", \Self.delayMilliseconds), ("OTEL_BSP_MAX_QUEUE_SIZE", \Self.queueLimit),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", \Self.batchSize),
        ] as [(String, WritableKeyPath<Self, Int>)] {
            whole(name, environment[name]) { self[keyPath: key] = $0 }
        }
    }

    private var delayMilliseconds: Int {
        get { Int(delay.components.seconds * 1000) }
        set { delay = .milliseconds(newValue) }
    }

    private static func url(atBase base: String) -> String {
        (base.hasSuffix("/") ? String(base.dropLast()) : base) + "/v1/traces"
    }

    /// Reads `name=value,…` with percent-encoded values, as in W3C baggage.
    private static func pairs(_ text: String?) -> [String: String] {
        var pairs: [String: String] = [:]
        for pair in (text ?? "").split(separator: ",") {
            let parts = pair.split(separator: "=", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
            guard parts.count == 2, !parts[0].isEmpty else { continue }
            pairs[parts[0]] = parts[1].removingPercentEncoding ?? parts[1]
        }
        return pairs
    }
}
