import Breakwater
import BreakwaterHTTP
import Foundation
public import Logging
public import Metrics
public import ServiceLifecycle

/// Sends spans to an OpenTelemetry collector, in OTLP over HTTP with JSON.
///
/// Spans wait until there is a full batch or the configured delay has passed. No code ever waits for a span to be sent:
/// if a slow or absent collector leaves no room in the queue, spans are dropped and counted in
/// `breakwater_spans_total`. On shutdown the remaining spans are sent with one attempt for each batch, so the exporter
/// should shut down after the worker.
public struct OTLPExporter: Service {
    /// The most attempts to send a batch while the collector is down, overloaded or unreachable.
    static let tries = 5
    /// The longest pause between two attempts.
    static let longestPause = Duration.seconds(30)

    let configuration: OTLPConfiguration
    let queue: SpanQueue
    private let endpoint: ConfiguredEndpoint
    private let headers: [String]
    private let resource: OTLPAttributes
    private let logger: Logger
    private let exported: Counter
    private let failed: Counter

    /// - Parameters:
    ///   - configuration: The configuration of the export.
    ///   - logger: Receives errors of sending.
    ///   - metrics: The factory of the metrics. Defaults to the one that `MetricsSystem` was bootstrapped with.
    /// - Throws: ``HTTPPluginError`` when the URL is invalid.
    public init(
        _ configuration: OTLPConfiguration,
        logger: Logger,
        metrics: any MetricsFactory = MetricsSystem.factory
    ) throws {
        self.configuration = configuration
        self.logger = logger
        endpoint = try ConfiguredEndpoint(configuration.url, caFile: configuration.caFile)
        headers =
            try ConfiguredEndpoint.headerLines(configuration.headers) + [
                "Content-Type: application/json", "User-Agent: breakwater",
            ]
        resource = OTLPAttributes(
            configuration.resource.merging([
                "service.instance.id": UUID().uuidString.lowercased(), "telemetry.sdk.name": "breakwater",
                "telemetry.sdk.language": "swift", "telemetry.sdk.version": breakwaterVersion,
                "host.name": ProcessInfo.processInfo.hostName,
                "process.pid": "\(ProcessInfo.processInfo.processIdentifier)",
            ]) { given, _ in given }
        )
        queue = SpanQueue(limit: configuration.queueLimit, batch: configuration.batchSize, metrics: metrics)
        exported = Metric.spans.counter("exported", in: metrics)
        failed = Metric.spans.counter("failed", in: metrics)
    }

    /// Sends spans until shutdown, and then the remaining ones.
    public func run() async throws {
        await cancelWhenGracefulShutdown {
            await withTaskGroup { group in
                // This task sends batches that do not fill up within the delay.
                group.addTask {
                    while !Task.isCancelled {
                        try? await Task.sleep(for: configuration.delay)
                        queue.requestSending()
                    }
                }
                group.addTask {
                    while !Task.isCancelled {
                        await queue.wait()
                        await sendAll(tries: Self.tries)
                    }
                }
            }
        }
        // This runs in a separate task, because the cancellation of the current one would end the requests.
        await Task { await sendAll(tries: 1) }.value
    }

    private func sendAll(tries: Int) async {
        while !Task.isCancelled {
            let spans = queue.dequeueBatch()
            guard !spans.isEmpty else { return }
            await send(spans, tries: tries)
        }
    }

    private func send(_ spans: [OTLPSpan], tries: Int) async {
        let body: [UInt8]
        do {
            body = Array(try JSONEncoder().encode(OTLPRequest(spans, resource: resource)))
        } catch {
            failed.increment(by: spans.count)
            return
        }
        var pause = Duration.seconds(1)
        var problem = ""
        for attempt in 1...tries {
            let wanted: Duration?
            switch await endpoint.post(body, headers: headers, timeout: configuration.timeout) {
            case .response(let response) where (200..<300).contains(response.status):
                exported.increment(by: spans.count)
                return
            case .response(let response):
                problem = "it answered \(response.status)"
                guard [429, 502, 503, 504].contains(response.status) else { return refused(spans, problem) }
                wanted = response.retryAfter.flatMap(Int64.init).map { .seconds($0) }
            case .failure(let failure):
                problem = failure.reason
                wanted = nil
            case .cancelled:
                // On shutdown, these spans get one more attempt before the remaining ones are sent.
                await Task { await send(spans, tries: 1) }.value
                return
            }
            if attempt < tries {
                do {
                    try await Task.sleep(for: min(Self.longestPause, wanted ?? pause * Double.random(in: 0.5...1)))
                } catch {
                    await Task { await send(spans, tries: 1) }.value
                    return
                }
                pause *= 2
            }
        }
        refused(spans, problem)
    }

    private func refused(_ spans: [OTLPSpan], _ problem: String) {
        failed.increment(by: spans.count)
        logger.warning(
            "spans could not be sent and are lost",
            metadata: [
                "collector": "\(endpoint.display)", "error": "\(problem)", "spans": .stringConvertible(spans.count),
            ]
        )
    }
}
