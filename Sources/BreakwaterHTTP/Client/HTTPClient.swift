import Foundation
import Synchronization

/// Sends the requests of every handler in the process.
///
/// It has a few threads. Each thread waits for its sockets, and keeps its connections open for later requests. A request
/// goes to the first of the threads that have the fewest requests, so a quiet process uses one thread.
final class HTTPClient: Sendable {
    /// More threads than this would be waiting for the rest of the worker.
    private static let mostThreads = 4

    private static let started = Result { () throws(HTTPPluginError) in try HTTPClient() }

    private let threads: [HTTPThread]
    private let lastID = Atomic(0)

    /// The process's client. Its threads start with the first handler and run as long as the process.
    ///
    /// - Throws: ``HTTPPluginError`` with the code `noResources` if the process has no descriptor, thread or memory left.
    static func shared() throws(HTTPPluginError) -> HTTPClient { try started.get() }

    private init() throws(HTTPPluginError) {
        let count = max(1, min(Self.mostThreads, ProcessInfo.processInfo.activeProcessorCount))
        threads = (0..<count).compactMap { _ in HTTPThread(share: count) }
        if threads.isEmpty {
            throw HTTPPluginError(
                .noResources,
                "this process has no descriptor, thread or memory left to send requests with; raise its limits"
            )
        }
    }

    /// Sends a request and waits for the answer without holding a thread.
    ///
    /// Cancellation closes the request's connection and ends the wait promptly.
    func send(_ request: HTTPRequest) async -> HTTPAnswer {
        let id = lastID.add(1, ordering: .relaxed).newValue
        // `init` makes sure that there is a thread.
        let thread = threads.min { $0.requestCount < $1.requestCount }!
        return await thread.send(request, as: id)
    }
}
