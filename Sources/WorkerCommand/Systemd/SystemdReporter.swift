import Breakwater
import Foundation
import ServiceLifecycle

/// Tells systemd how the worker is: that it is ready, what it does, that it stops, and, for the watchdog, that its
/// loops still turn. For units with `Type=notify` and, if wanted, `WatchdogSec=`.
struct SystemdReporter: Service {
    /// How often the status is looked at, and the watchdog's shortest pause.
    private static let interval = Duration.milliseconds(500)

    let socket: NotifySocket
    let health: WorkerHealth
    /// The unit is ended when nothing was heard for so long; nil without a watchdog.
    let watchdog: Duration?

    /// - Returns: Nil where no systemd listens.
    init?(environment: [String: String], health: WorkerHealth) {
        guard let socket = NotifySocket(environment: environment) else { return nil }
        self.socket = socket
        self.health = health
        // Meant for another process, it would be told too much.
        let isMeant = environment["WATCHDOG_PID"].map { $0 == "\(getpid())" } ?? true
        watchdog = environment["WATCHDOG_USEC"].flatMap(Int64.init).flatMap { microseconds in
            isMeant && microseconds > 0 ? .microseconds(microseconds) : nil
        }
    }

    /// Reports until everything else has stopped: it should shut down last.
    func run() async throws {
        await cancelWhenGracefulShutdown {
            var report = SystemdReport()
            var nextKick = ContinuousClock.now
            while !Task.isCancelled {
                let told = report
                var news = report.news(ready: health.readiness(), live: health.liveness(), drains: health.isDraining)
                if let watchdog, .now >= nextKick, health.liveness().isGood {
                    news.append("WATCHDOG=1")
                    nextKick = .now + watchdog / 4
                }
                // What was not sent is still news at the next look.
                if !news.isEmpty, !socket.send(news) { report = told }
                try? await Task.sleep(for: min(Self.interval, (watchdog ?? Self.interval) / 8))
            }
        }
        // It may have stopped between two looks; hearing it twice does no harm.
        socket.send(["STOPPING=1"])
    }
}

/// What systemd has been told, and what it should be told next.
struct SystemdReport {
    private var saysReady = false
    private var saysStopping = false
    private var status = ""

    mutating func news(ready: WorkerHealth.Answer, live: WorkerHealth.Answer, drains: Bool) -> [String] {
        var news: [String] = []
        // Once ready, a unit stays so: that the database is away is told by the status.
        if !saysReady, ready.isGood {
            saysReady = true
            news.append("READY=1")
        }
        if !saysStopping, drains {
            saysStopping = true
            news.append("STOPPING=1")
        }
        let reasons = live.reasons + ready.reasons
        // One line, whatever an error says.
        let current = (reasons.isEmpty ? "takes jobs" : reasons.joined(separator: "; ")).replacing("\n", with: " ")
        if current != status {
            status = current
            news.append("STATUS=\(current)")
        }
        return news
    }
}
