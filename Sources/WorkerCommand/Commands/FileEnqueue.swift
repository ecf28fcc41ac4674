import ArgumentParser
import BreakwaterAdmin
import Foundation
import Libpq

/// The options of `worker enqueue --file`.
struct EnqueueFileOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Add one job for each line of this file of JSON lines; - is standard input.",
            valueName: "path"
        )
    )
    var file: String?

    @Option(
        name: .customLong("import"),
        help: ArgumentHelp(
            "With --file: remember in the database, under this name, which lines are done.",
            valueName: "name"
        )
    )
    var importName: String?

    @Option(help: "With --file: begin with this line.")
    var fromLine: Int?

    @Option(help: "With --file: at most this many lines a second. Else as fast as possible.")
    var rate: Int?

    @Option(help: "With --file: how many lines in one transaction. Defaults to 1000.")
    var portion: Int?

    @Flag(help: "With --file: only check the lines.")
    var dryRun = false

    func validate() throws {
        if file == nil, importName != nil || fromLine != nil || rate != nil || portion != nil || dryRun {
            throw ValidationError("--import, --from-line, --rate, --portion and --dry-run go with --file.")
        }
        if file == "" { throw ValidationError("--file is empty; give a path, or - for standard input.") }
        if let importName, !(1...200).contains(importName.utf8.count) {
            throw ValidationError("The name of the import has \(importName.utf8.count) bytes; give 1 to 200.")
        }
        if importName != nil, fromLine != nil {
            throw ValidationError("--import knows the line to begin with; leave out --from-line, or take another name.")
        }
        for (name, value) in [("--from-line", fromLine), ("--rate", rate), ("--portion", portion)] {
            if let value, !(1...1_000_000_000_000).contains(value) {
                throw ValidationError("\(name) \(value) is not allowed; give at least 1.")
            }
        }
        if let portion, portion > 10_000 {
            throw ValidationError("--portion \(portion) is not allowed; give 1 to 10000.")
        }
    }
}

/// `worker enqueue --file`: adds a job for each line, in portions, and tracks the last line that was added.
struct FileEnqueue {
    var path: String
    var options: EnqueueFileOptions
    /// Values for what a line leaves out. If they include a kind, each line is only a payload.
    var defaults: NewJob
    var database: String?
    var isJSON: Bool

    /// The counts so far.
    private struct Tally {
        var added = 0
        /// Lines that were skipped because a live job had their unique key.
        var present = 0
        /// The last line that was added.
        var line = 0
    }

    /// The most bytes that a portion holds, unless it is a single longer line.
    private static let mostBytes = 4 * 1024 * 1024
    /// How long an incomplete portion waits for more lines.
    private static let lineTimeout = Duration.milliseconds(500)

    func run() async throws {
        Foreground.installHandlers()
        var reader = try LineReader(path: path)
        defer { reader.close() }
        var tally = Tally()
        var isCutShort = false
        if options.dryRun {
            isCutShort = try await work(&reader, &tally) { lines in (lines.count, 0) }
        } else {
            isCutShort = try await AdminDatabase.with(database) { admin in
                try await goToStart(&reader, &tally, admin)
                return try await work(&reader, &tally) { try await add($0, admin) }
            }
        }
        report(tally, isCutShort: isCutShort)
        if isCutShort {
            throw CommandFailure(.interrupted, "interrupted after line \(tally.line). \(howToGoOn(after: tally.line))")
        }
    }

    /// Skips the lines that this import has already added.
    private func goToStart(_ reader: inout LineReader, _ tally: inout Tally, _ admin: AdminDatabase) async throws {
        guard let name = options.importName else { return }
        let position = try await admin.importPosition(name)
        guard position > 0 else { return }
        var text = ""
        while reader.number < position, Foreground.stopSignal == nil {
            switch try await reader.next(within: .seconds(1)) {
            case .line(let line): text = line
            case .nothing: continue
            case .end:
                throw CommandFailure(
                    .refused,
                    "the import '\(name)' has done \(position) lines, and \(reader.name) has \(reader.number): it is another "
                        + "file.\nGive the right one, or another name."
                )
            }
        }
        tally.line = reader.number
        guard Foreground.stopSignal == nil else { return }
        guard try await admin.isLastLine(text, ofImport: name) else {
            throw CommandFailure(
                .refused,
                "line \(position) of \(reader.name) is not the one that the import '\(name)' ended with: it is another file, "
                    + "or has changed.\nGive the right one, or another name."
            )
        }
        Terminal.complain("The import '\(name)' goes on after line \(position).")
    }

    /// Reads lines and passes them on in portions, until the input ends or a signal arrives. Returns whether a signal
    /// ended it.
    private func work(
        _ reader: inout LineReader,
        _ tally: inout Tally,
        add: ([JobLines.Line]) async throws -> (added: Int, present: Int)
    ) async throws -> Bool {
        var progress = Progress(options.dryRun ? "checked" : "enqueued")
        defer { progress.end() }
        let pace = Pace(rate: options.rate)
        let most = pace.portion(atMost: options.portion ?? 1000)
        var seen = 0
        var isAtEnd = false
        while !isAtEnd, Foreground.stopSignal == nil {
            var portion = JobLines()
            var fault: CommandFailure?
            do {
                isAtEnd = try await fill(&portion, from: &reader, most: most)
            } catch let failure as CommandFailure {
                // The lines before the bad one are still added.
                fault = failure
            }
            if !portion.lines.isEmpty {
                do {
                    let result = try await add(portion.lines)
                    tally.added += result.added
                    tally.present += result.present
                } catch let refusal as LineRefusal {
                    progress.end()
                    tally.added += refusal.added
                    tally.line = refusal.line - 1
                    throw stopped(tally, refusal.failure)
                } catch {
                    progress.end()
                    throw lost(tally, upTo: portion.lastNumber, error)
                }
                seen += portion.lines.count
            }
            tally.line = max(tally.line, portion.lastNumber)
            if let fault {
                progress.end()
                throw stopped(tally, fault)
            }
            progress.show(
                tally.added + tally.present,
                share: reader.size.map { $0 > 0 ? Double(reader.consumed) / Double($0) : 1 }
            )
            let end = ContinuousClock.now + pace.delay(after: seen)
            while Foreground.stopSignal == nil, ContinuousClock.now < end {
                _ = await Foreground.wait(ContinuousClock.now.duration(to: end))
            }
        }
        return !isAtEnd
    }

    /// Fills a portion until it is full, no line arrives for a moment, or the input ends. Returns whether the input has
    /// ended.
    private func fill(_ portion: inout JobLines, from reader: inout LineReader, most: Int) async throws -> Bool {
        while portion.lines.count < most, portion.bytes < Self.mostBytes, Foreground.stopSignal == nil {
            switch try await reader.next(within: Self.lineTimeout) {
            case .end: return true
            case .nothing:
                if !portion.lines.isEmpty { return false }
            case .line(let text):
                if reader.number >= options.fromLine ?? 1, !text.allSatisfy(\.isWhitespace) {
                    let json = try JobLine.json(
                        text,
                        isPayload: !defaults.kind.isEmpty,
                        at: "\(reader.name):\(reader.number)"
                    )
                    portion.lines.append(JobLines.Line(text: text, json: json, number: reader.number))
                    portion.bytes += text.utf8.count
                }
                portion.lastNumber = reader.number
            }
        }
        return false
    }

    /// Adds lines in one transaction. If the database refuses one of them, the lines before it are still added.
    private func add(_ lines: [JobLines.Line], _ admin: AdminDatabase) async throws -> (added: Int, present: Int) {
        do {
            let added = try await admin.enqueue(lines, defaults: defaults, import: options.importName)
            return (added, lines.count - added)
        } catch let error as PostgresError where error.isAboutValues {
            guard lines.count > 1 else {
                let place = "\(path == "-" ? "standard input" : path):\(lines[0].number)"
                var failure = CommandFailure(error, at: admin.place)
                failure.message = "\(place): \(failure.message)"
                throw LineRefusal(line: lines[0].number, added: 0, failure: failure)
            }
            // The database's error does not say which line it is about. Bisection finds the line.
            let half = lines.count / 2
            let first = try await add(Array(lines[..<half]), admin)
            do {
                let second = try await add(Array(lines[half...]), admin)
                return (first.added + second.added, first.present + second.present)
            } catch var refusal as LineRefusal {
                refusal.added += first.added
                throw refusal
            }
        }
    }

    private func report(_ tally: Tally, isCutShort: Bool) {
        if isJSON {
            Terminal.write(
                .object([
                    "added": .integer(Int64(options.dryRun ? 0 : tally.added)),
                    "present": .integer(Int64(tally.present)),
                    "last_line": .integer(Int64(tally.line)), "interrupted": .bool(isCutShort),
                ])
            )
            return
        }
        Terminal.write("\(added(tally)).")
    }

    private func added(_ tally: Tally) -> String {
        let jobs = tally.added == 1 ? "1 job" : "\(tally.added) jobs"
        if options.dryRun { return "\(jobs) would be added" }
        let present = tally.present > 0 ? ", \(tally.present) were there already" : ""
        return "\(jobs) \(tally.added == 1 ? "was" : "were") added\(present)"
    }

    /// The failure for an invalid line, after all lines before it were added.
    private func stopped(_ tally: Tally, _ failure: CommandFailure) -> CommandFailure {
        guard !options.dryRun else { return failure }
        return CommandFailure(
            failure.status,
            "\(failure.message)\n\(added(tally)). Mend the line, then go on. \(howToGoOn(after: tally.line))"
        )
    }

    /// The failure when the database failed and it is not known whether the last portion was added.
    private func lost(_ tally: Tally, upTo line: Int, _ error: any Error) -> CommandFailure {
        let failure =
            switch error {
            case let error as PostgresError: CommandFailure(error, at: database ?? "as configured")
            case let failure as CommandFailure: failure
            default: CommandFailure(.unexpected, "unexpected: \(error)")
            }
        let doubt =
            options.importName == nil
            ? "\nThe lines \(tally.line + 1) to \(line) may be in or not: look before you repeat them, or use --import."
            : ""
        return CommandFailure(
            failure.status,
            "\(failure.message)\nAll lines up to \(tally.line) are in. \(howToGoOn(after: tally.line))\(doubt)"
        )
    }

    private func howToGoOn(after line: Int) -> String {
        options.importName == nil
            ? "The same input with --from-line \(line + 1) goes on."
            : "The same command goes on from there."
    }
}

/// The error that the database refused a line.
private struct LineRefusal: Error {
    var line: Int
    /// How many jobs of the same portion were added before this line.
    var added: Int
    var failure: CommandFailure
}

extension PostgresError {
    /// Whether the server refused the values that were sent, rather than failing for another reason.
    fileprivate var isAboutValues: Bool {
        guard let sqlState else { return code == .invalidParameter }
        return sqlState.hasPrefix("22") || sqlState.hasPrefix("23") || sqlState == "54000"
    }
}

/// The format of a line in a file of jobs.
enum JobLine {
    static let keys = [
        "kind", "payload", "queue", "priority", "run_at", "max_attempts", "unique_key", "traceparent",
        "tracestate",
    ]

    /// The JSON object of a line's job.
    ///
    /// - Parameters:
    ///   - text: The line's text.
    ///   - isPayload: Whether the line is only the payload.
    ///   - place: The file's name and the line's number, for the error message.
    /// - Throws: ``CommandFailure`` when the line does not describe a job.
    static func json(_ text: String, isPayload: Bool, at place: String) throws -> String {
        guard
            let value = try? JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)
        else {
            throw CommandFailure(.usage, "\(place): the line is not one JSON value")
        }
        if isPayload { return "{\"payload\": \(text)}" }
        guard let object = value as? [String: Any] else {
            throw CommandFailure(.usage, "\(place): the line is not a JSON object such as {\"kind\": \"email.send\"}")
        }
        for key in object.keys.sorted() where !keys.contains(key) {
            throw CommandFailure(
                .usage,
                "\(place): there is no key '\(key)'; a job has \(keys.joined(separator: ", ")). "
                    + "Where the lines are payloads, give the kind as an argument."
            )
        }
        guard object["kind"] is String else {
            throw CommandFailure(.usage, "\(place): the line names no kind, such as {\"kind\": \"email.send\"}")
        }
        return text
    }
}
