import BreakwaterAdmin
import Foundation

/// `worker status --watch`: shows the fleet repeatedly until a key or a signal stops it.
struct StatusWatch {
    var database: String?
    var isJSON: Bool
    var interval: Duration

    /// Runs until ctrl-C, SIGTERM or the key q. Afterwards the terminal's earlier contents are restored in every case.
    func run() async throws {
        Foreground.installHandlers(isJSON || isatty(STDOUT_FILENO) != 1 ? [] : [SIGWINCH, SIGTSTP, SIGCONT])
        // The first query runs before the alternate screen is entered, so that a failure of it is printed as an
        // ordinary message.
        guard let first = try await query() else { return }
        guard !isJSON, let screen = Screen() else {
            try await printAgainAndAgain(first)
            return
        }
        defer { screen.leave() }
        await draw(first, on: screen)
    }

    /// Queries the fleet over a new connection, so that a restart or fail-over between two queries needs no handling.
    /// Returns nil if a signal stops the command first.
    private func query() async throws -> Snapshot? {
        let clock = ContinuousClock()
        return try await Foreground.unlessStopped { [database] in
            let start = clock.now
            return try await AdminDatabase.with(database) { admin in
                Snapshot(
                    status: try await admin.fleetStatus(),
                    rates: try await admin.callRates(),
                    place: admin.place,
                    at: Date.now,
                    queryTime: start.duration(to: clock.now)
                )
            }
        }
    }

    private struct Snapshot: Sendable {
        var status: FleetStatus
        var rates: [CallRate]
        var place: String
        var at: Date
        /// How long the queries took. Counting many millions of jobs takes a while.
        var queryTime: Duration
    }

    /// How long to wait until the next query: at least the requested interval, and long enough that queries take at
    /// most a fifth of the time.
    private func pause(after snapshot: Snapshot) -> Duration { max(interval, snapshot.queryTime * 4) }

    private func draw(_ first: Snapshot, on screen: Screen) async {
        let isStyled = (ProcessInfo.processInfo.environment["NO_COLOR"] ?? "").isEmpty
        var snapshot = first
        var problem: String?
        while Foreground.stopSignal == nil {
            let picture = FleetPicture(
                status: snapshot.status,
                rates: snapshot.rates,
                place: snapshot.place,
                at: snapshot.at,
                interval: pause(after: snapshot),
                problem: problem
            )
            screen.draw(picture.lines(screen.size, isStyled: isStyled))
            guard await waitForNext(pause(after: snapshot), picture: picture, screen: screen, isStyled: isStyled) else {
                return
            }
            do {
                guard let next = try await self.query() else { return }
                (snapshot, problem) = (next, nil)
            } catch {
                // People watch the status during an outage of the database, so the last picture stays until the
                // database is back.
                let message = (error as? CommandFailure)?.message ?? "\(error)"
                problem = String(message.prefix { $0 != "\n" }).escapingControlCharacters
            }
        }
    }

    /// Waits until the next query is due, and meanwhile handles keys, a new terminal size, and job control.
    ///
    /// - Returns: False when the command is to end.
    private func waitForNext(_ pause: Duration, picture: FleetPicture, screen: Screen, isStyled: Bool) async -> Bool {
        let end = ContinuousClock.now + pause
        var input: Int32? = isatty(STDIN_FILENO) == 1 ? STDIN_FILENO : nil
        while true {
            let left = ContinuousClock.now.duration(to: end)
            guard left > .zero else { return true }
            switch await Foreground.wait(left, input: input) {
            case .time: return Foreground.stopSignal == nil
            case .signal(SIGWINCH): screen.draw(picture.lines(screen.size, isStyled: isStyled))
            case .signal(SIGTSTP):
                screen.leave()
                // SIGSTOP cannot be caught. The shell has the terminal until it sends SIGCONT.
                kill(getpid(), SIGSTOP)
            case .signal(SIGCONT):
                screen.enter()
                screen.draw(picture.lines(screen.size, isStyled: isStyled))
            case .signal: return false
            case .input:
                var key: UInt8 = 0
                guard read(STDIN_FILENO, &key, 1) == 1 else {
                    input = nil
                    break
                }
                // q, Q, and the byte that ctrl-D sends in non-canonical mode.
                if [0x71, 0x51, 0x04].contains(key) { return false }
            }
        }
    }

    private func printAgainAndAgain(_ first: Snapshot) async throws {
        var snapshot = first
        while true {
            if isJSON {
                let extra = [
                    JSONValue.Member("at", .time(snapshot.at)), .init("rates", .array(snapshot.rates.map(\.json))),
                ]
                Terminal.write(JSONValue.object(extra + snapshot.status.json.members).lineText)
            } else {
                Terminal.write("==> \(snapshot.at.shortText)")
                snapshot.status.print()
                if !snapshot.rates.isEmpty {
                    Terminal.write("RATES, OF THE LAST 10 S")
                    Terminal.write(CallRate.table(snapshot.rates))
                }
                Terminal.write("")
            }
            guard Terminal.flush() else { return }
            let end = ContinuousClock.now + pause(after: snapshot)
            while ContinuousClock.now < end, Foreground.stopSignal == nil {
                _ = await Foreground.wait(ContinuousClock.now.duration(to: end))
            }
            guard Foreground.stopSignal == nil, let next = try await self.query() else { return }
            snapshot = next
        }
    }
}
