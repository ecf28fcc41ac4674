import Synchronization

/// The latest values that a running job has reported about itself.
///
/// Nothing stores them yet: they last as long as the run. A worker that stores them gives the object to the run in its
/// ``JobContext``, and reads it from time to time.
package final class RunReports: Sendable {
    package struct Values: Sendable, Equatable {
        /// How much of the work is done, from 0 to 1.
        package var fraction: Double?
        /// What the run is doing, for people.
        package var note: String?
        /// A state from which a later attempt can go on, as JSON text.
        package var checkpoint: String?

        package init(fraction: Double? = nil, note: String? = nil, checkpoint: String? = nil) {
            self.fraction = fraction
            self.note = note
            self.checkpoint = checkpoint
        }
    }

    private let values = Mutex(Values())

    package init() {}

    package var latest: Values { values.withLock(\.self) }

    /// Reports progress. A value that is nil keeps the one reported before.
    package func progress(fraction: Double?, note: String?) {
        values.withLock { values in
            if let fraction { values.fraction = fraction }
            if let note { values.note = note }
        }
    }

    package func checkpoint(_ json: String) { values.withLock { $0.checkpoint = json } }
}
