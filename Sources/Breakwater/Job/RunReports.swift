/// Where one run reports its progress and its checkpoints.
package struct RunReports: Sendable {
    /// The latest values that a running job has reported about itself.
    package struct Values: Sendable, Equatable {
        /// How much of the work is done, from 0 to 1.
        package var fraction: Double?
        /// What the run is doing, for people.
        package var note: String?
        /// A state from which a later run can go on, as JSON text.
        package var checkpoint: String?

        package init(fraction: Double? = nil, note: String? = nil, checkpoint: String? = nil) {
            self.fraction = fraction
            self.note = note
            self.checkpoint = checkpoint
        }
    }

    /// The most characters of a note, as Postgres counts them.
    package static let longestNote = 200
    /// The most bytes of a checkpoint's JSON.
    package static let longestCheckpoint = 65_536

    private let board: ProgressBoard
    private let run: RunKey

    /// Reports that nobody stores.
    package init() { self.init(of: RunKey(id: 0, lease: 0), to: ProgressBoard()) }

    init(of run: RunKey, to board: ProgressBoard) {
        self.run = run
        self.board = board
    }

    package var latest: Values { board.latest(of: run) }

    /// Reports progress. A value that is nil keeps the one reported before.
    ///
    /// A fraction beyond 0 to 1 counts as the nearer end, and one that is not a number as nil. A note is cut, and its
    /// control characters become spaces.
    package func progress(fraction: Double?, note: String?) {
        let fraction = fraction.flatMap { $0.isNaN ? nil : min(max($0, 0), 1) }
        let note = note?.storableNote
        board.change(run) { values in
            if let fraction { values.fraction = fraction }
            if let note { values.note = note }
        }
    }

    /// Reports a checkpoint.
    ///
    /// - Throws: ``JobFailure`` if it is too large or no JSON that can be stored. The last one then stays.
    package func checkpoint(_ json: String) throws(JobFailure) {
        guard json.utf8.count <= Self.longestCheckpoint else {
            throw JobFailure(
                "checkpoint.tooLarge",
                "a checkpoint has \(json.utf8.count) bytes of JSON, and at most \(Self.longestCheckpoint) are kept"
            )
        }
        guard let storable = JobResult.value(in: json) else {
            throw JobFailure(
                "checkpoint.invalid",
                "a checkpoint is not one JSON value, or is nested too deeply, or has numbers that are too large"
            )
        }
        board.change(run) { $0.checkpoint = storable }
    }
}

extension String {
    /// The beginning of this text, without control characters and as long as a note may be. No character is split,
    /// unless the first one is too long by itself.
    fileprivate var storableNote: String {
        let longest = RunReports.longestNote
        let text = String(String.UnicodeScalarView(unicodeScalars.lazy.map { $0.isControl ? " " : $0 }.prefix(4096)))
        var (kept, count) = ("", 0)
        for character in text {
            count += character.unicodeScalars.count
            if count > longest { break }
            kept.append(character)
        }
        return kept.isEmpty ? String(text.unicodeScalars.prefix(longest)) : kept
    }
}
