import Synchronization

/// What the processes of one run of a program carry in their environment, wherever they go: the program itself, and
/// what it starts, sessions of their own and daemons included.
struct RunMark: Sendable, Hashable {
    static let variable = "BREAKWATER_RUN_ID"

    /// What the marks of all runs of this worker begin with.
    static let worker = String(UInt64.random(in: .min ... .max), radix: 16)

    private static let last = Atomic<UInt64>(0)

    let text: String

    init(worker: String = Self.worker) {
        text = "\(worker).\(Self.last.wrappingAdd(1, ordering: .relaxed).newValue)"
    }

    /// The whole entry as it stands in an environment, with the NUL that ends it.
    var entry: [UInt8] { Array("\(Self.variable)=\(text)\0".utf8) }
}
