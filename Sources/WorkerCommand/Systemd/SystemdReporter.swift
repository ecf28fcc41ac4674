import Breakwater
import Foundation
import ServiceLifecycle

/// Reports to systemd that the worker is ready, what its status is, that it is stopping, and, for the watchdog, that
/// its loops are alive. This serves units with `Type=notify` and optionally `WatchdogSec=`.
struct SystemdReporter: Service {
    /// The longest pause between two checks of the worker's health.
    private static let interval = Duration.milliseconds(500)

    let socket: NotifySocket
    let health: WorkerHealth
    /// The watchdog's timeout: systemd ends the unit if it receives no report for this long. Nil without a watchdog.
    let watchdog: Duration?

    /// - Returns: Nil if systemd does not manage this process.
    init?(environment: [String: String], health: WorkerHealth) {
        guard let socket = NotifySocket(environment: environment) else { return nil }
        self.socket = socket
        self.health = health
        // `WATCHDOG_PID` says which process the watchdog is for. If it is another process, this one must not report for
        // it.
        let isMeant = environment["WATCHDOG_PID"].map { $0 == "\(getpid())" } ?? true
        watchdog = environment["WATCHDOG_USEC"].flatMap(Int64.init).flatMap { microseconds in
            isMeant && microseconds > 0 ? .microseconds(microseconds) : nil
        }
    }

    /// Reports until all other services have stopped. It should shut down last.
    func run() async throws {
        await cancelWhenGracefulShutdown {
            var report = SystemdReport()
            var nextKick = ContinuousClock.now
            while !Task.isCancelled {
                let previous = report
                var changes = report.changes(
                    ready: health.readiness(),
                    live: health.liveness(),
                    drains: health.isDraining
                )
                if let watchdog, .now >= nextKick, health.liveness().isGood {
                    changes.append("WATCHDOG=1")
                    nextKick = .now + watchdog / 4
                }
                // A report that could not be sent is sent again at the next check.
                if !changes.isEmpty, !socket.send(changes) { report = previous }
                try? await Task.sleep(for: min(Self.interval, (watchdog ?? Self.interval) / 8))
            }
        }
        // The worker may have started to stop between two checks. Reporting this twice does no harm.
        socket.send(["STOPPING=1"])
    }
}

/// The state that was last reported to systemd, and the changes to report next.
struct SystemdReport {
    private var saysReady = false
    private var saysStopping = false
    private var status = ""

    mutating func changes(ready: WorkerHealth.Answer, live: WorkerHealth.Answer, drains: Bool) -> [String] {
        var changes: [String] = []
        // Once reported ready, a unit stays ready. Later outages of the database are reported in the status.
        if !saysReady, ready.isGood {
            saysReady = true
            changes.append("READY=1")
        }
        if !saysStopping, drains {
            saysStopping = true
            changes.append("STOPPING=1")
        }
        let reasons = live.reasons + ready.reasons
        // The status must be one line, but an error's message may have several.
        let current = (reasons.isEmpty ? "takes jobs" : reasons.joined(separator: "; ")).replacing("\n", with: " ")
        if current != status {
            status = current
            changes.append("STATUS=\(current)")
        }
        return changes
    }
}
