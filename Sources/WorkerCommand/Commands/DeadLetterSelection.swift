import BreakwaterAdmin
import ArgumentParser

/// The dead letters that a change is for: by id, or by kind and reason, or all of them; never all by leaving it out.
struct DeadLetterSelection: ParsableArguments {
    @Argument(help: "Their ids. Else --kind, --reason or --all.")
    var ids: [Int64] = []

    @OptionGroup var which: DeadLetterOptions

    @Flag(help: "All of them.")
    var all = false

    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        let isFiltered = which.filter != DeadLetterFilter()
        switch (ids.isEmpty, isFiltered, all) {
        case (true, false, false):
            throw ValidationError("Say which: ids, --kind, --reason or --all.")
        case (false, true, _), (false, _, true):
            throw ValidationError("Ids go alone, without --kind, --reason and --all.")
        default:
            break
        }
    }

    /// Changes them and prints how many there were.
    ///
    /// - Parameters:
    ///   - done: What was done, in the words of the message.
    ///   - key: The key of the count in JSON.
    ///   - each: Changes one; false if it is not there.
    ///   - all: Changes many; returns how many.
    /// - Throws: ``CommandFailure`` when an id is not there, after all others were changed.
    func apply(
        done: String,
        key: String,
        each: (AdminDatabase, Int64) async throws -> Bool,
        all: (AdminDatabase, DeadLetterFilter) async throws -> Int
    ) async throws {
        var missing: [Int64] = []
        let count = try await AdminDatabase.with(database.database) { admin in
            guard !ids.isEmpty else { return try await all(admin, which.filter) }
            for id in ids where try await !each(admin, id) { missing.append(id) }
            return ids.count - missing.count
        }
        if output.json {
            Terminal.write(.object([.init(key, .integer(Int64(count)))]))
        } else {
            Terminal.write(count == 1 ? "1 dead letter was \(done)." : "\(count) dead letters were \(done).")
        }
        if !missing.isEmpty { throw CommandFailure.noDeadLetters(missing) }
    }
}
