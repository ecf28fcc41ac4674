import BreakwaterExec
import BreakwaterHTTP
import BreakwaterMetrics
import BreakwaterTesting
import Foundation
import Libpq
import Logging
import Metrics
import ServiceLifecycle
import Testing
import Tracing

@testable import Breakwater
@testable import BreakwaterOTLP

@Suite("Traces")
struct TraceTests {
    private static let trace = "0af7651916cd43dd8448eb211c80319c"
    private static let producer = "b7ad6b7169203331"
    private let traceparent = "00-\(Self.trace)-\(Self.producer)-01"
    private let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func exporter(
        _ url: String,
        _ registry: MetricsRegistry = MetricsRegistry(),
        _ change: (inout OTLPConfiguration) -> Void = { _ in }
    ) throws -> OTLPExporter {
        var configuration = OTLPConfiguration(endpoint: url)
        configuration.delay = .milliseconds(50)
        change(&configuration)
        return try OTLPExporter(configuration, logger: silent, metrics: registry)
    }

    /// Runs an exporter during the body, and shuts it down afterwards.
    private func running<Result: Sendable>(
        _ exporter: OTLPExporter,
        _ body: @escaping @Sendable (OTLPTracer) async throws -> Result
    ) async throws -> Result {
        let group = ServiceGroup(services: [exporter], logger: silent)
        async let run: Void = group.run()
        let result = try await body(OTLPTracer(exporter))
        await group.triggerGracefulShutdown()
        try await run
        return result
    }

    @Test(
        "go from the enqueuer of a job, through its run, to every kind of handler",
        .enabled(if: TestDatabase.isAvailable, "\(needsServer)")
    )
    func passedOn() async throws {
        let collector = Collector()
        let traceparent = traceparent
        try await withTestDatabase { database in
            try await collector.run { url in
                let exporter = try exporter(url)
                try await running(exporter) { tracer in
                    var kept = HandlerSettings()
                    kept.keepResults = .seconds(3600)
                    let program = try ExecPlugin(command: ["sh", "-c", "echo \"\\\"$TRACEPARENT $TRACESTATE\\\"\""])
                    let code = ClosureHandler { job, context in
                        // This call of the handler is a span within the run's span.
                        tracer.withSpan("inner") { _ in }
                        let ids = "\(context.logger[metadataKey: "trace_id"].map { "\($0)" } ?? "")"
                        return .succeeded(result: "\"\(job.traceparent ?? "") \(job.tracestate ?? "") \(ids)\"")
                    }
                    let failing = ClosureHandler { _, _ in .discarded(JobFailure("no.good", "the secret is 42")) }
                    let handlers = [
                        HandlerRegistration(kind: "exec", plugin: program, settings: kept),
                        HandlerRegistration(kind: "swift", plugin: code, settings: kept),
                        HandlerRegistration(kind: "http", plugin: try HTTPPlugin(url: "\(url)/hook")),
                        HandlerRegistration(kind: "failing", plugin: failing),
                    ]
                    for kind in ["exec", "swift", "http", "failing"] {
                        try await database.query(
                            """
                            select breakwater.enqueue($1, '"the secret is 42"', traceparent => $2, tracestate => 'v=1')
                            """,
                            [.text(kind), .text(traceparent)]
                        )
                    }
                    var configuration = WorkerConfiguration(database: database.options, handlers: handlers)
                    configuration.pollInterval = .milliseconds(100)
                    let worker = Worker(configuration: configuration, logger: silent, tracer: tracer)
                    let group = ServiceGroup(services: [worker], logger: silent)
                    async let run: Void = group.run()
                    try await waitUntil("the spans arrive") { collector.spans.count == 5 }
                    await group.triggerGracefulShutdown()
                    try await run
                }
            }
            #expect(collector.faults == [])
            let runs = collector.spans.filter { $0.kind == 5 }
            #expect(Set(runs.map(\.name)) == ["process exec", "process swift", "process http", "process failing"])
            for run in runs {
                #expect(run.traceId == Self.trace)
                #expect(run.parentSpanId == Self.producer)
                #expect(run.traceState == "v=1")
                #expect(run.links.map(\.spanId) == [Self.producer] && run.links.map(\.traceId) == [Self.trace])
                #expect(run["messaging.system"] == "breakwater")
                #expect(run["messaging.destination.name"] == "default")
                #expect(run["messaging.operation.type"] == "process")
                #expect(run["messaging.message.body.size"] == "int 18")
                #expect(run["breakwater.attempt"] == "int 1")
                #expect(run["breakwater.circuit.probe"] == "false")
                #expect((UInt64(run.endTimeUnixNano) ?? 0) >= (UInt64(run.startTimeUnixNano) ?? .max))
                let known = Set(SpanKey.allCases.map(\.rawValue))
                #expect(run.attributes.allSatisfy { known.contains($0.key) })
                #expect(!"\(run)".contains("secret"))
            }
            func span(_ kind: String) throws -> Collector.Span {
                try #require(runs.first { $0.name == "process \(kind)" })
            }
            let passed = { (span: Collector.Span) in "00-\(Self.trace)-\(span.spanId)-01 v=1" }
            let results = try await database.texts("select result #>> '{}' from breakwater.result order by kind")
            // The Swift handler continues with the logger's trace, which the tests' silent logger does not keep.
            try #require(results.count == 2)
            #expect(results[0] == passed(try span("exec")))
            #expect(results[1].hasPrefix(passed(try span("swift"))))
            let headers = try #require(collector.jobHeaders.first)
            #expect("\(headers["traceparent"] ?? "") \(headers["tracestate"] ?? "")" == passed(try span("http")))
            let inner = try #require(collector.spans.first { $0.name == "inner" })
            #expect(inner.parentSpanId == (try span("swift")).spanId && inner.traceId == Self.trace)
            let failed = try span("failing")
            #expect(failed.status.code == 2 && failed["error.type"] == "no.good")
            #expect(failed["breakwater.outcome"] == "discarded")
            #expect(try span("exec").status.code == 0)
            // The trace context is kept with the job, and later with the dead letter.
            let dead = try await database.query("select traceparent, tracestate from breakwater.dead_letter")[0]
            #expect(try dead[0].string() == traceparent)
            #expect(try dead[1].string() == "v=1")
            try await database.query("select breakwater.redrive(id) from breakwater.dead_letter")
            #expect(try await database.text("select tracestate from breakwater.job") == "v=1")
        }
    }

    @Test("begin with Swift code that enqueues", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
    func produced() async throws {
        let collector = Collector()
        try await withTestDatabase { database in
            let id = try await collector.run { url in
                let exporter = try exporter(url)
                return try await running(exporter) { tracer in
                    try await database.connection.enqueue(kind: "k", payload: "{}", queue: "q", tracer: tracer)
                }
            }
            let span = try #require(collector.spans.first)
            #expect(span.name == "enqueue k" && span.kind == 4 && span.parentSpanId == nil)
            #expect(span["messaging.message.id"] == "\(id)")
            #expect(span["messaging.operation.type"] == "send")
            let kept = try await database.text("select traceparent from breakwater.job where queue = 'q'")
            #expect(kept == "00-\(span.traceId)-\(span.spanId)-01")
        }
    }

    @Test(
        "without a tracer, the enqueuer's trace context is passed on unchanged",
        .enabled(if: TestDatabase.isAvailable, "\(needsServer)")
    )
    func untraced() async throws {
        let traceparent = traceparent
        try await withTestDatabase { database in
            var kept = HandlerSettings()
            kept.keepResults = .seconds(3600)
            let code = ClosureHandler { job, _ in
                .succeeded(result: "\"\(job.traceparent ?? "") \(job.tracestate ?? "")\"")
            }
            try await database.query(
                "insert into breakwater.job (kind, traceparent, tracestate) values ('k', $1, 'v=1')",
                [.text(traceparent)]
            )
            try await database.withWorker([HandlerRegistration(kind: "k", plugin: code, settings: kept)]) {
                try await waitUntil("it ran") {
                    try await database.number("select count(*) from breakwater.result") == 1
                }
            }
            #expect(try await database.text("select result #>> '{}' from breakwater.result") == "\(traceparent) v=1")
        }
    }

    @Test("are tried again while the collector is overloaded, and counted")
    func retried() async throws {
        let registry = MetricsRegistry()
        let collector = Collector(answers: [503])
        try await collector.run { url in
            let exporter = try exporter(url, registry) { configuration in
                configuration.headers = ["X-Token": "t"]
                configuration.resource["service.name"] = "shop"
            }
            try await running(exporter) { tracer in
                tracer.startSpan("a").end()
                // A stop sends again what the collector has but has not yet acknowledged.
                try await waitUntil("it is acknowledged") {
                    Scrape(registry)["breakwater_spans_total{result=\"exported\"}"] == 1
                }
            }
        }
        #expect(collector.spans.count == 1)
        #expect(collector.headers.count == 2)
        #expect(collector.headers[0]["x-token"] == "t" && collector.headers[0]["content-type"] == "application/json")
        #expect(collector.resource["service.name"] == "shop")
        #expect(Scrape(registry)["breakwater_spans_total{result=\"exported\"}"] == 1)
    }

    @Test("that are refused, or that no collector accepts, are counted and given up")
    func refused() async throws {
        let registry = MetricsRegistry()
        let collector = Collector(answers: [400])
        try await collector.run { url in
            try await running(try exporter(url, registry)) { tracer in
                tracer.startSpan("a").end()
                try await waitUntil("it is refused") {
                    Scrape(registry)["breakwater_spans_total{result=\"failed\"}"] == 1
                }
            }
        }
        try await running(try exporter("http://127.0.0.1:1", registry) { $0.delay = .seconds(3600) }) { tracer in
            tracer.startSpan("a").end()
        }
        #expect(Scrape(registry)["breakwater_spans_total{result=\"failed\"}"] == 2)
    }

    @Test("wait in a bounded queue; spans that do not fit are dropped, and the others are sent on shutdown")
    func bounded() async throws {
        let registry = MetricsRegistry()
        let collector = Collector()
        try await collector.run { url in
            let exporter = try exporter(url, registry) { configuration in
                configuration.queueLimit = 5
                configuration.batchSize = 2
                configuration.delay = .seconds(3600)
            }
            let tracer = OTLPTracer(exporter)
            for _ in 0..<8 { tracer.startSpan("a").end() }
            #expect(Scrape(registry)["breakwater_spans_total{result=\"dropped\"}"] == 3)
            try await running(exporter) { _ in }
        }
        // If the collector is slow, a batch may be sent to it again.
        #expect(Set(collector.spans.map(\.spanId)).count == 5)
        #expect(collector.headers.count >= 3)
    }

    @Test("keep the attributes of a span, in order and with their types, until it ends")
    func span() async throws {
        let collector = Collector()
        try await collector.run { url in
            try await running(try exporter(url)) { tracer in
                let span = tracer.startSpan("first", ofKind: .server)
                span.operationName = "second"
                span.attributes["flag"] = true
                span.attributes["half"] = 0.5
                span.recordError(JobFailure("name", "a secret"))
                span.setStatus(SpanStatus(code: .error, message: "bad"))
                #expect(span.isRecording)
                span.end()
                span.operationName = "too late"
                span.end()
                #expect(!span.isRecording)
            }
        }
        let span = try #require(collector.spans.first)
        #expect(collector.spans.count == 1 && span.name == "second" && span.kind == 2)
        #expect(span["flag"] == "true" && span["half"] == "0.5")
        #expect(span.status.code == 2 && span.status.message == "bad")
        #expect(span.events.map(\.name) == ["exception"] && !"\(span)".contains("a secret"))
    }

    @Test("read and write the W3C's trace context, and accept no other text")
    func context() {
        let identity = SpanIdentity(traceparent: traceparent, tracestate: "v=1")
        #expect(identity?.traceparent == traceparent && identity?.state == "v=1")
        // A later version of traceparent may have more fields.
        #expect(SpanIdentity(traceparent: "01-\(Self.trace)-\(Self.producer)-01-more", tracestate: nil) != nil)
        for wrong in [
            "", "00-ab-cd-01", "\(traceparent)-more", "ff-\(Self.trace)-\(Self.producer)-01",
            "00-\(String(repeating: "0", count: 32))-\(Self.producer)-01",
            "00-\(Self.trace)-\(String(repeating: "0", count: 16))-01", traceparent.uppercased(),
            "00-\(Self.trace)-\(Self.producer)-0x",
        ] {
            #expect(SpanIdentity(traceparent: wrong, tracestate: nil) == nil, "\(wrong)")
        }
        let child = SpanIdentity.new(in: identity) { _ in false }
        #expect(child.trace == Self.trace && child.span != Self.producer && child.state == "v=1" && !child.isSampled)
        #expect(SpanIdentity(traceparent: SpanIdentity.new(in: nil) { _ in true }.traceparent, tracestate: nil) != nil)
    }

    @Test("are sampled by the rules of OpenTelemetry's samplers")
    func sampled() {
        let sampled = SpanIdentity(traceparent: traceparent, tracestate: nil)
        var unsampled = sampled
        unsampled?.isSampled = false
        func samples(_ name: String, _ argument: String? = nil, parent: SpanIdentity?, trace: String = Self.trace)
            -> Bool?
        {
            Sampler(name: name, argument: argument)?.samples(trace: trace, parent: parent)
        }
        #expect(samples("always_on", parent: unsampled) == true)
        #expect(samples("always_off", parent: sampled) == false)
        #expect(samples("parentbased_always_on", parent: unsampled) == false)
        #expect(samples("parentbased_always_off", parent: sampled) == true)
        #expect(samples("parentbased_always_off", parent: nil) == false)
        #expect(samples("nonsense", parent: nil) == nil)
        let chosen = (0..<1000).count { _ in
            samples("traceidratio", "0.25", parent: nil, trace: SpanIdentity.new(in: nil) { _ in true }.trace) == true
        }
        #expect((150...350).contains(chosen))
        #expect(samples("parentbased_traceidratio", "0", parent: nil) == false)
    }

    @Test("are configured by the standard variables")
    func environment() throws {
        #expect(OTLPConfiguration(environment: [:]) == nil)
        #expect(OTLPConfiguration(environment: ["OTEL_SDK_DISABLED": "true"], endpoint: "http://c:1") == nil)
        #expect(OTLPConfiguration(environment: ["OTEL_TRACES_EXPORTER": "none"], endpoint: "http://c:1") == nil)
        let base = try #require(OTLPConfiguration(environment: ["OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"]))
        #expect(base.url == "http://c:4318/v1/traces" && base.resource == ["service.name": "breakwater"])
        let full = try #require(
            OTLPConfiguration(environment: [
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://d/t",
                "OTEL_EXPORTER_OTLP_HEADERS": "a=1,b=2%2C3", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=9",
                "OTEL_SERVICE_NAME": "shop",
                "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=live,service.name=x",
                "OTEL_EXPORTER_OTLP_TIMEOUT": "1500", "OTEL_BSP_SCHEDULE_DELAY": "250", "OTEL_BSP_MAX_QUEUE_SIZE": "7",
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "0", "OTEL_TRACES_SAMPLER": "always_off",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            ])
        )
        #expect(full.url == "http://d/t" && full.headers == ["a": "9", "b": "2,3"])
        #expect(full.resource == ["service.name": "shop", "deployment.environment.name": "live"])
        #expect(full.timeout == .milliseconds(1500) && full.delay == .milliseconds(250) && full.queueLimit == 7)
        #expect(full.batchSize == 512 && full.sampler == .alwaysOff)
        #expect(full.warnings.count == 2)
    }
}
