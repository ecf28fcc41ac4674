import Synchronization

/// The variable in the environment of all processes of one run: the program itself and the processes that it starts,
/// including daemons and those in their own sessions.
package struct RunMark: Sendable, Hashable {
    package static let variable = "BREAKWATER_RUN_ID"

    /// The prefix of the marks of all runs of this worker.
    package static let worker = String(UInt64.random(in: .min ... .max), radix: 16)

    private static let last = Atomic<UInt64>(0)

    package let text: String

    package init(worker: String = Self.worker) {
        text = "\(worker).\(Self.last.wrappingAdd(1, ordering: .relaxed).newValue)"
    }

    /// The whole entry in an environment, including the terminating NUL.
    package var entry: [UInt8] { Array("\(Self.variable)=\(text)\0".utf8) }
}
