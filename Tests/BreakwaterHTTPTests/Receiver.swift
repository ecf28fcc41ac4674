import Foundation

/// The server that a test's requests reach. It answers them, or keeps them waiting until the test decides, and counts
/// them.
final class Receiver: @unchecked Sendable {
    // Sendable because the fields are used under the condition's lock only.
    private let condition = NSCondition()
    private var status: Int? = 200
    private var now = 0
    private var most = 0
    private var total = 0

    /// How many requests are being answered.
    var atOnce: Int { locked { now } }
    /// The most requests at once since the last `startCounting`.
    var mostAtOnce: Int { locked { most } }
    /// How many requests arrived since the last `startCounting`.
    var count: Int { locked { total } }

    /// Resets the counts.
    func startCounting() {
        locked {
            most = now
            total = 0
        }
    }

    /// Answers requests with this status from now on, also those that already wait. Nil keeps them waiting.
    func answer(_ status: Int?) {
        locked {
            self.status = status
            condition.broadcast()
        }
    }

    func receive(_ request: TestServer.Request) -> TestServer.Reply {
        locked {
            now += 1
            total += 1
            most = max(most, now)
            let deadline = Date(timeIntervalSinceNow: 60)
            while status == nil, condition.wait(until: deadline) {}
            now -= 1
            return .answer(status ?? 500)
        }
    }

    private func locked<Value>(_ body: () -> Value) -> Value {
        condition.lock()
        defer { condition.unlock() }
        return body()
    }
}
