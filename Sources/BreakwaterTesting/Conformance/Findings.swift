import Breakwater
import Logging
import Synchronization

/// The violations that were found, each as one line.
final class Findings: Sendable {
    private let lines = Mutex<[String]>([])

    var all: [String] { lines.withLock { $0 } }

    func add(_ line: String) { lines.withLock { $0.append(line) } }

    /// Adds a line, unless the condition holds.
    func expect(_ isFulfilled: Bool, _ line: @autoclosure () -> String) {
        if !isFulfilled { add(line()) }
    }

    /// Makes a plugin, starts it, and stops it after the body, as a worker does.
    ///
    /// - Parameters:
    ///   - suite: The suite.
    ///   - body: Runs jobs.
    ///   - afterStop: Runs jobs between the stop and another one.
    func withSession(
        of suite: PluginConformance,
        _ body: (ConformanceSession) async -> Void,
        afterStop: (ConformanceSession) async -> Void = { _ in }
    ) async {
        let plugin: any HandlerPlugin
        do {
            plugin = try await suite.makePlugin()
        } catch {
            add("the plugin cannot be made: \(error)")
            return
        }
        if let capacity = plugin.capacity, capacity < 1 { add("its capacity is \(capacity): it must be at least 1") }
        let session = ConformanceSession(suite: suite, plugin: plugin, findings: self)
        let logger = RecordedLog().logger()
        guard await ends("start", suite.patience, { await plugin.start(logger: logger) }) else { return }
        await body(session)
        guard await ends("stop", suite.patience, { await plugin.stop() }) else { return }
        await afterStop(session)
        guard await ends("a second stop", suite.patience, { await plugin.stop() }) else { return }
    }

    private func ends(_ what: String, _ patience: Duration, _ body: @escaping @Sendable () async -> Void) async -> Bool
    {
        let end = CallEnd()
        // Unstructured, so that a call that never returns does not hold up the suite.
        Task {
            await body()
            end.hasCome.store(true, ordering: .releasing)
        }
        if await isTrue(within: patience, { end.hasCome.load(ordering: .acquiring) }) { return true }
        add("\(what) had not returned after \(patience)")
        return false
    }
}

/// The end of a call that may never return.
private final class CallEnd: Sendable {
    let hasCome = Atomic(false)
}
