import Synchronization

/// The reports of all runs of a worker, until they are stored.
///
/// A run that reports nothing costs nothing here.
final class ProgressBoard: Sendable {
    private struct Entry {
        var values = RunReports.Values()
        /// How often the values have changed, and how many of these changes are stored.
        var version: Int64 = 0
        var stored: Int64 = 0
        /// The version that changed the checkpoint last.
        var checkpointVersion: Int64 = 0

        func report(of run: RunKey) -> RunReport? {
            guard version > stored else { return nil }
            return RunReport(
                run: run,
                version: version,
                fraction: values.fraction,
                note: values.note,
                checkpoint: checkpointVersion > stored ? values.checkpoint : nil
            )
        }
    }

    private let entries = Mutex<[RunKey: Entry]>([:])
    /// The number of entries, so that runs can end without the lock while there are none.
    private let count = Atomic<Int>(0)

    func latest(of run: RunKey) -> RunReports.Values { entries.withLock { $0[run]?.values ?? .init() } }

    /// Changes a run's values.
    func change(_ run: RunKey, _ body: (inout RunReports.Values) -> Void) {
        entries.withLock { entries in
            var entry = entries[run] ?? Entry()
            let before = entry.values
            body(&entry.values)
            guard entry.values != before else { return }
            entry.version += 1
            if entry.values.checkpoint != before.checkpoint { entry.checkpointVersion = entry.version }
            entries[run] = entry
            count.store(entries.count, ordering: .releasing)
        }
    }

    /// Removes a run that has ended.
    ///
    /// - Returns: What it had reported and is not stored.
    func end(_ run: RunKey) -> RunReport? {
        // A run's own reports come before its end.
        guard count.load(ordering: .acquiring) > 0 else { return nil }
        return entries.withLock { entries in
            guard let entry = entries.removeValue(forKey: run) else { return nil }
            count.store(entries.count, ordering: .releasing)
            return entry.report(of: run)
        }
    }

    /// The reports that are not stored, and forgets all runs but these, because a task that outlives its run may report.
    ///
    /// - Parameter running: The runs that have not ended. It is called only if anything was reported.
    func unstored(of running: () -> Set<RunKey>) -> [RunReport] {
        guard count.load(ordering: .acquiring) > 0 else { return [] }
        // The reports are older than the list of runs, so that a run that starts meanwhile keeps its entry.
        let known = entries.withLock { Set($0.keys) }
        let gone = known.subtracting(running())
        return entries.withLock { entries in
            for run in gone { entries[run] = nil }
            count.store(entries.count, ordering: .releasing)
            return entries.compactMap { run, entry in entry.report(of: run) }
        }
    }

    /// Notes that reports are stored. They are those that ``unstored(of:)`` returned last.
    func stored(_ reports: [RunReport]) {
        entries.withLock { entries in
            for report in reports { entries[report.run]?.stored = report.version }
        }
    }
}

/// What a run has reported, to be stored.
package struct RunReport: Sendable, Equatable {
    package var run: RunKey
    /// The number of reports that the run had made. Of two reports of a run, the database keeps the higher one.
    package var version: Int64
    package var fraction: Double?
    package var note: String?
    /// nil: it has not changed.
    package var checkpoint: String?
}

/// One run of one job.
package struct RunKey: Hashable, Sendable {
    package var id: Int64
    package var lease: Int64

    package init(id: Int64, lease: Int64) {
        self.id = id
        self.lease = lease
    }

    init(_ job: Job) { self.init(id: job.id, lease: job.lease) }
}
