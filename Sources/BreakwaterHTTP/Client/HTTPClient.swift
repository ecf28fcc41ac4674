import Foundation
import Synchronization

/// Sends the requests of every handler in the process on a few threads, each of which waits for all its sockets.
///
/// Connections are kept open and reused. A thread keeps its own, so requests go to the first thread as long as it has
/// nothing else to do.
final class HTTPClient: Sendable {
    /// The process's client. Its threads start with the first handler or request and run as long as the process.
    static let shared = HTTPClient()

    /// More threads than this would be waiting for the rest of the worker.
    private static let mostThreads = 4

    private let threads: [HTTPThread]
    private let lastID = Atomic(0)

    private init() {
        let count = max(1, min(Self.mostThreads, ProcessInfo.processInfo.activeProcessorCount))
        threads = (0..<count).map { _ in HTTPThread(share: count) }
    }

    /// Sends a request and waits for the answer without holding a thread.
    ///
    /// Cancellation closes the request's connection and ends the wait promptly.
    func send(_ request: HTTPRequest) async -> HTTPAnswer {
        let id = lastID.add(1, ordering: .relaxed).newValue
        // `init` makes at least one thread, and the first one of several with equal counts is chosen.
        let thread = threads.min { $0.requestCount < $1.requestCount }!
        return await thread.send(request, as: id)
    }
}
