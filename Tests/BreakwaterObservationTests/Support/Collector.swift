import Foundation
import Hummingbird
import Logging
import NIOCore
import ServiceLifecycle
import Synchronization

/// An OpenTelemetry collector that decodes and keeps the spans it gets. It also has an endpoint for jobs.
final class Collector: Sendable {
    struct Request: Decodable {
        var resourceSpans: [ResourceSpans]
    }

    struct ResourceSpans: Decodable {
        struct Resource: Decodable {
            var attributes: [Attribute]
        }

        struct ScopeSpans: Decodable {
            var spans: [Span]
        }

        var resource: Resource
        var scopeSpans: [ScopeSpans]
    }

    struct Span: Decodable {
        struct Link: Decodable {
            var traceId: String
            var spanId: String
            var traceState: String?
        }

        struct Event: Decodable {
            var name: String
            var attributes: [Attribute]
        }

        struct Status: Decodable {
            var code: Int
            var message: String?
        }

        var traceId: String
        var spanId: String
        var parentSpanId: String?
        var traceState: String?
        var name: String
        var kind: Int
        var startTimeUnixNano: String
        var endTimeUnixNano: String
        var attributes: [Attribute]
        var events: [Event]
        var links: [Link]
        var status: Status

        subscript(key: String) -> String? { attributes.first { $0.key == key }?.value.text }
    }

    struct Attribute: Decodable {
        struct Value: Decodable {
            var stringValue: String?
            var intValue: String?
            var doubleValue: Double?
            var boolValue: Bool?

            /// The value with its type in front, except for texts.
            var text: String? {
                stringValue ?? intValue.map { "int \($0)" } ?? boolValue.map { "\($0)" } ?? doubleValue.map { "\($0)" }
            }
        }

        var key: String
        var value: Value
    }

    private struct State {
        var spans: [Span] = []
        var resources: [String: String] = [:]
        var headers: [[String: String]] = []
        var jobHeaders: [[String: String]] = []
        var answers: [Int]
        var faults: [String] = []
    }

    private let state: Mutex<State>

    /// - Parameter answers: The statuses of its first answers. Later answers are 200.
    init(answers: [Int] = []) { state = Mutex(State(answers: answers)) }

    var spans: [Span] { state.withLock(\.spans) }
    /// The attributes with which the last sender described itself.
    var resource: [String: String] { state.withLock(\.resources) }
    /// The headers of each request for spans.
    var headers: [[String: String]] { state.withLock(\.headers) }
    /// The headers of each job that came to `/hook`.
    var jobHeaders: [[String: String]] { state.withLock(\.jobHeaders) }
    /// Requests that could not be decoded.
    var faults: [String] { state.withLock(\.faults) }

    fileprivate func take(_ body: Data, _ headers: [String: String]) -> HTTPResponse.Status {
        state.withLock { state in
            state.headers.append(headers)
            let status = state.answers.isEmpty ? 200 : state.answers.removeFirst()
            guard status == 200 else { return HTTPResponse.Status(code: status) }
            do {
                let request = try JSONDecoder().decode(Request.self, from: body)
                for spans in request.resourceSpans {
                    for attribute in spans.resource.attributes { state.resources[attribute.key] = attribute.value.text }
                    state.spans += spans.scopeSpans.flatMap(\.spans)
                }
            } catch {
                state.faults.append("\(error) in \(String(decoding: body, as: UTF8.self))")
                return .badRequest
            }
            return .ok
        }
    }

    /// Runs the collector during the body.
    ///
    /// - Parameter body: Receives the base URL.
    func run<Result: Sendable>(_ body: @escaping @Sendable (String) async throws -> Result) async throws -> Result {
        let router = Router()
        @Sendable func headers(_ request: Request_) -> [String: String] {
            Dictionary(request.headers.map { ($0.name.rawName.lowercased(), $0.value) }) { $1 }
        }
        router.post("/v1/traces") { request, _ in
            let body = try await request.body.collect(upTo: 16 << 20)
            return Response(status: self.take(Data(body.readableBytesView), headers(request)))
        }
        router.post("/hook") { request, _ in
            self.state.withLock { $0.jobHeaders.append(headers(request)) }
            return Response(status: .ok)
        }
        let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
        let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let application = Application(
            router: router,
            configuration: ApplicationConfiguration(address: .hostname("127.0.0.1", port: 0)),
            onServerRunning: { continuation.yield($0.localAddress?.port ?? 0) },
            logger: silent
        )
        let group = ServiceGroup(services: [application], logger: silent)
        return try await withThrowingTaskGroup(of: Result?.self) { tasks in
            tasks.addTask {
                try await group.run()
                return nil
            }
            tasks.addTask {
                guard let port = await ports.first(where: { _ in true }) else { throw CancellationError() }
                return try await body("http://127.0.0.1:\(port)")
            }
            let first = try await tasks.next() ?? nil
            await group.triggerGracefulShutdown()
            let second = try await tasks.next() ?? nil
            guard let result = first ?? second else { throw CancellationError() }
            return result
        }
    }
}

/// Hummingbird's type. The collector has a type of the same name.
private typealias Request_ = Hummingbird.Request
