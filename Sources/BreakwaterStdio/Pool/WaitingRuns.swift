/// The runs that wait for a process, the first come first.
struct WaitingRuns {
    private var runs: [UInt64] = []
    /// The index of the first; those before it were removed.
    private var head = 0

    var isEmpty: Bool { head == runs.count }

    mutating func append(_ run: UInt64) { runs.append(run) }

    /// Puts runs before all others.
    mutating func prepend(_ first: [UInt64]) {
        guard !first.isEmpty else { return }
        runs.replaceSubrange(..<head, with: first)
        head = 0
    }

    /// Removes and returns the first run that the condition accepts. Those before it are removed.
    mutating func popFirst(where isWanted: (UInt64) -> Bool) -> UInt64? {
        while head < runs.count {
            let run = runs[head]
            head += 1
            if head == runs.count {
                runs.removeAll(keepingCapacity: true)
                head = 0
            } else if head > 1024, head * 2 > runs.count {
                runs.removeFirst(head)
                head = 0
            }
            if isWanted(run) { return run }
        }
        return nil
    }

    mutating func removeAll() -> ArraySlice<UInt64> {
        let all = runs[head...]
        runs = []
        head = 0
        return all
    }
}
