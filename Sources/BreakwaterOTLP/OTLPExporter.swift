import Breakwater
import BreakwaterHTTP
import Foundation
public import Logging
public import Metrics
public import ServiceLifecycle

/// Sends spans to an OpenTelemetry collector, in OTLP over HTTP with JSON.
///
/// Spans wait for others, up to a batch or the configured delay. Nothing ever waits for a span: what a slow or absent
/// collector leaves no room for is dropped, and counted in `breakwater_spans_total`. On shutdown it sends what is left,
/// trying each batch once; so it should shut down after the worker.
public struct OTLPExporter: Service {
    /// How often a batch is tried while the collector is away, overloaded or out of reach.
    static let tries = 5
    /// The longest pause between two tries.
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
    ///   - configuration: Where to send spans, and how.
    ///   - logger: Where it says that they cannot be sent.
    ///   - metrics: Where it counts. Defaults to what `MetricsSystem` was bootstrapped with.
    /// - Throws: ``HTTPPluginError`` when the URL is not one.
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

    /// Sends until shutdown, and then what is left.
    public func run() async throws {
        await cancelWhenGracefulShutdown {
            await withTaskGroup { group in
                // So that a batch that never fills is sent too.
                group.addTask {
                    while !Task.isCancelled {
                        try? await Task.sleep(for: configuration.delay)
                        queue.wantsSending()
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
        // In a task of its own: this one's cancellation would end the requests.
        await Task { await sendAll(tries: 1) }.value
    }

    private func sendAll(tries: Int) async {
        while !Task.isCancelled {
            let spans = queue.take()
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
                // Shutdown: one more try for these, with the rest of what is left.
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
