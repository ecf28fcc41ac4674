import Foundation
import Testing

@testable import BreakwaterAdmin
@testable import WorkerCommand

@Suite("The picture of the fleet")
struct FleetPictureTests {
    private func picture(kinds: Int, workers: Int = 3) -> FleetPicture {
        let depths = (0..<kinds).map { number in
            Depth(
                queue: "default",
                kind: "kind.\(number)",
                ready: 1000 * number,
                running: 1,
                scheduled: 0,
                retrying: 2,
                parked: 0,
                oldestReady: .seconds(5),
                nextDue: nil,
                isPaused: false,
                circuit: "closed",
                workers: 1
            )
        }
        let workers = (0..<workers).map { number in
            WorkerStatus(
                id: Int64(number),
                name: "host:\(number)",
                version: "1",
                state: "running",
                queues: ["default"],
                kinds: ["kind.0"],
                concurrency: 20,
                running: 3,
                startedAt: Date(timeIntervalSince1970: 0),
                silentFor: .milliseconds(300),
                isAlive: true,
                leads: number == 0
            )
        }
        let status = FleetStatus(
            depths: depths,
            workers: workers,
            circuits: [],
            suspensions: [],
            pauses: [],
            deadLetters: []
        )
        return FleetPicture(
            status: status,
            rates: [CallRate(kind: "kind.0", succeeded: 1234.4, failed: 0.26, slow: 0, retries: 11)],
            place: "host=db",
            at: Date(timeIntervalSince1970: 0),
            interval: .seconds(2),
            problem: nil
        )
    }

    @Test("fits every size", arguments: [1, 2, 3, 5, 8, 13, 24, 50, 200], [1, 9, 40, 80, 300])
    func fits(height: Int, width: Int) {
        for isStyled in [false, true] {
            let lines = picture(kinds: 20).lines(Screen.Size(width: width, height: height), isStyled: isStyled)
            #expect(lines.count <= height)
            for line in lines {
                #expect(line.replacing(/\u{1B}\[[0-9;]*m/, with: "").displayWidth <= width)
            }
        }
    }

    @Test("shows everything if there is room, and otherwise says how much is cut")
    func cuts() {
        let all = picture(kinds: 20).lines(Screen.Size(width: 200, height: 100), isStyled: false)
        #expect(all.count { $0.contains("kind.") && $0.hasPrefix("default") } == 20)
        #expect(!all.contains { $0.hasPrefix("… ") })
        let some = picture(kinds: 20).lines(Screen.Size(width: 200, height: 24), isStyled: false)
        #expect(some.count == 24)
        let shown = some.count { $0.contains("kind.") && $0.hasPrefix("default") }
        #expect(shown > 0)
        #expect(some.contains("… \(20 - shown) more"))
        // The three workers fit, so they are not cut to make room for the twenty kinds.
        #expect(some.count { $0.contains("host:") } == 3)
    }

    @Test("sums up depths and rates")
    func sums() {
        let lines = picture(kinds: 3).lines(Screen.Size(width: 300, height: 50), isStyled: false)
        #expect(lines[1].contains("ready 3,000"))
        #expect(lines[1].contains("done 1,234/s"))
        #expect(lines[1].contains("failed 0.3/s"))
        #expect(lines.contains { $0.hasPrefix("kind.0") && $0.contains("1,234") })
    }
}

@Suite("Progress")
struct ProgressTests {
    @Test("shows the count, the share, the speed and the remaining time")
    func text() {
        #expect(Progress.text(1000, done: "enqueued", share: nil, rate: 2) == "1,000 enqueued, 2 a second")
        #expect(
            Progress.text(12_000, done: "put back", share: 0.25, rate: 3000)
                == "12,000 put back (25%), 3,000 a second, 12s left"
        )
        #expect(Progress.text(0, done: "put back", share: 0, rate: 0) == "0 put back (0%), 0 a second")
        #expect([0, 999, 1000, -1_234_567].map(\.groupedText) == ["0", "999", "1,000", "-1,234,567"])
    }

    @Test("keeps an even pace")
    func pace() {
        #expect(Pace(rate: nil).portion(atMost: 1000) == 1000)
        #expect(Pace(rate: nil).delay(after: 1_000_000) == .zero)
        #expect(Pace(rate: 100).portion(atMost: 1000) == 25)
        #expect(Pace(rate: 1).portion(atMost: 1000) == 1)
        #expect(Pace(rate: 100_000).portion(atMost: 1000) == 1000)
        #expect(Pace(rate: 10).delay(after: 1000) > .seconds(90))
    }
}
