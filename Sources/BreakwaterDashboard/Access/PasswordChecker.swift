import BreakwaterEndpoints
import Dispatch
import Synchronization

/// Checks passwords against hashes, one at a time, on a dedicated thread.
///
/// A check takes 128 MiB and a good part of a second. So there is one at a time, and only a few may wait. Further ones
/// are refused at once.
final class PasswordChecker: Sendable {
    enum Verdict: Sendable, Equatable {
        case right
        case wrong
        /// Too many checks are waiting, so this one was not made.
        case busy
    }

    private struct Waiting: Sendable {
        var all = 0
        var ofClient: [ClientAddress?: Int] = [:]
    }

    static let mostWaiting = 12
    static let mostWaitingOfClient = 4

    private let queue = DispatchQueue(label: "breakwater.dashboard.passwords")
    private let waiting = Mutex(Waiting())

    /// Checks whether a password matches a hash.
    func check(_ password: String, _ hash: PasswordHash, for client: ClientAddress?) async -> Verdict {
        let isAdmitted = waiting.withLock { waiting in
            guard waiting.all < Self.mostWaiting, waiting.ofClient[client, default: 0] < Self.mostWaitingOfClient else {
                return false
            }
            waiting.all += 1
            waiting.ofClient[client, default: 0] += 1
            return true
        }
        guard isAdmitted else { return .busy }
        let isRight = await withCheckedContinuation { continuation in
            queue.async { continuation.resume(returning: hash.matches(password)) }
        }
        waiting.withLock { waiting in
            waiting.all -= 1
            let left = waiting.ofClient[client, default: 0] - 1
            waiting.ofClient[client] = left > 0 ? left : nil
        }
        return isRight ? .right : .wrong
    }
}
