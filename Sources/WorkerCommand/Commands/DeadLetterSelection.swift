import BreakwaterAdmin
import ArgumentParser
import Libpq

/// The dead letters that a command changes. They are selected by id; by kind, reason and incident; or by `--all`.
/// Without a selection, none are changed.
struct DeadLetterSelection: ParsableArguments {
    @Argument(help: "Their ids. Else --kind, --died-of, --incident or --all.")
    var ids: [Int64] = []

    @OptionGroup var which: DeadLetterOptions

    @Flag(help: "All of them.")
    var all = false

    @Option(help: "At most this many, oldest first. Else all that existed when the command began.")
    var limit: Int?

    @Option(help: "At most this many a second. Else as fast as possible.")
    var rate: Int?

    @Option(name: .customLong("portion"), help: "How many in one transaction.")
    var portionSize = 1000

    @Flag(help: "Only say how many there are.")
    var dryRun = false

    @OptionGroup var remark: Remark
    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        let isFiltered = which.filter != DeadLetterFilter()
        switch (ids.isEmpty, isFiltered, all) {
        case (true, false, false):
            throw ValidationError("Say which: ids, --kind, --died-of, --incident or --all.")
        case (false, true, _), (false, _, true):
            throw ValidationError("Ids go alone, without --kind, --died-of, --incident and --all.")
        default:
            break
        }
        for (name, value) in [("--limit", limit), ("--rate", rate), ("--portion", portionSize)] {
            guard let value else { continue }
            guard (1...1_000_000_000).contains(value) else {
                throw ValidationError("\(name) \(value) is not allowed; give at least 1.")
            }
        }
        guard portionSize <= 100_000 else {
            throw ValidationError("--portion \(portionSize) is not allowed; give 1 to 100000.")
        }
        if !ids.isEmpty, limit != nil || rate != nil || dryRun {
            throw ValidationError(
                "--limit, --rate and --dry-run go with --kind, --died-of, --incident or --all, not with ids."
            )
        }
    }

    /// Changes the selected dead letters and prints how many were changed.
    ///
    /// Many dead letters are changed in portions, each in its own transaction. SIGINT ends the command after the
    /// current portion. The same command then continues with the rest.
    ///
    /// - Parameters:
    ///   - done: A participle for the messages, such as `deleted`.
    ///   - key: The key of the count in JSON.
    ///   - age: Only dead letters that died at least this long before the command began are changed.
    ///   - each: Changes one dead letter; returns false if it does not exist.
    ///   - portion: Changes some of the dead letters that died by a time, the oldest first. Returns how many, 0 when
    ///     none are left.
    /// - Throws: ``CommandFailure`` when an id does not exist, after all others were changed; and when the command was
    ///   interrupted.
    func apply(
        done: String,
        key: String,
        olderThan age: Duration = .zero,
        each: (AdminDatabase, Int64) async throws -> Bool,
        portion: (AdminDatabase, inout DeadLetterPortions, _ limit: Int) async throws -> Int
    ) async throws {
        var missing: [Int64] = []
        var total: Int?
        Foreground.installHandlers()
        let count = try await AdminDatabase.with(database.database) { admin in
            guard ids.isEmpty else {
                for id in ids where try await !each(admin, id) { missing.append(id) }
                return ids.count - missing.count
            }
            try await which.check(admin)
            let (diedBy, found) = try await admin.countDeadLetters(which.filter, olderThan: age)
            let goal = min(found, limit ?? .max)
            total = goal
            guard !dryRun else { return goal }
            var some = DeadLetterPortions(
                filter: which.filter,
                diedBy: diedBy,
                reason: remark.reason,
                actor: remark.who
            )
            return try await applyAll(admin, done: done, goal: goal) { try await portion(admin, &some, $0) }
        }
        let isCutShort = Foreground.stopSignal != nil && count < total ?? 0
        if output.json {
            let members: [JSONValue.Member] = [
                .init(key, .integer(Int64(dryRun ? 0 : count))), .init("matched", .integer(orNull: total)),
            ]
            Terminal.write(.object(members.filter { $0.value != .null }))
        } else {
            let letters = count == 1 ? "1 dead letter" : "\(count) dead letters"
            Terminal.write(
                dryRun ? "\(letters) would be \(done)." : "\(letters) \(count == 1 ? "was" : "were") \(done)."
            )
        }
        if !missing.isEmpty { throw CommandFailure.noDeadLetters(missing) }
        if isCutShort, let total {
            throw CommandFailure(
                .interrupted,
                "interrupted: \(count) of \(total) are \(done). The same command goes on with the rest."
            )
        }
    }

    private func applyAll(
        _ admin: AdminDatabase,
        done: String,
        goal: Int,
        portion: (Int) async throws -> Int
    ) async throws -> Int {
        var progress = Progress(done)
        defer { progress.end() }
        let pace = Pace(rate: rate)
        var count = 0
        while Foreground.stopSignal == nil, count < limit ?? .max {
            let changed: Int
            do {
                changed = try await portion(min(pace.portion(atMost: portionSize), (limit ?? .max) - count))
            } catch let error as PostgresError {
                progress.end()
                let failure = CommandFailure(error, at: admin.place)
                throw CommandFailure(
                    failure.status,
                    "\(failure.message)\n\(count) are \(done). The same command goes on with the rest."
                )
            }
            guard changed > 0 else { break }
            count += changed
            progress.show(count, share: goal > 0 ? Double(count) / Double(goal) : nil)
            await waitForPace(pace.delay(after: count))
        }
        return count
    }

    private func waitForPace(_ delay: Duration) async {
        let end = ContinuousClock.now + delay
        while Foreground.stopSignal == nil, ContinuousClock.now < end {
            _ = await Foreground.wait(ContinuousClock.now.duration(to: end))
        }
    }
}
