import Synchronization

/// The ids of the suite's jobs: each run has another one, so that its log lines can be told from others.
enum RunIDs {
    private static let last = Atomic<Int64>(1_000_000_000)

    static func next() -> Int64 { last.wrappingAdd(1, ordering: .relaxed).newValue }
}
