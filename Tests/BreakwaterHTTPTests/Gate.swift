import Foundation

/// Lets threads through once a given number have arrived.
final class Gate: @unchecked Sendable {
    // Sendable because `arrived` is used under the condition's lock only.
    private let condition = NSCondition()
    private let count: Int
    private var arrived = 0

    init(count: Int) {
        self.count = count
    }

    func arriveAndWait() {
        condition.lock()
        defer { condition.unlock() }
        arrived += 1
        condition.broadcast()
        let deadline = Date(timeIntervalSinceNow: 30)
        while arrived < count, condition.wait(until: deadline) {}
    }
}
