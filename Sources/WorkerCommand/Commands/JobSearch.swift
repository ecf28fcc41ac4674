import ArgumentParser
import BreakwaterAdmin
import Foundation

/// A condition on the payload: `$.customer=17`, or an SQL/JSON path such as `$.total > 100`.
struct PayloadCondition: ExpressibleByArgument, Equatable {
    /// The condition as an SQL/JSON path.
    var path: String

    init?(argument: String) {
        guard argument.hasPrefix("$"), argument.utf8.count <= 1000 else { return nil }
        guard let sign = argument.firstIndex(of: "="), !Self.isPath(argument, sign) else {
            path = argument
            return
        }
        let place = argument[..<sign].trimmingCharacters(in: .whitespaces)
        let value = argument[argument.index(after: sign)...].trimmingCharacters(in: .whitespaces)
        let text = "\(place) == \(JSONValue.string(value).lineText)"
        // A value such as 17 is a number in some payloads and a text in others.
        path = Self.isScalar(value) ? "\(place) == \(value) || \(text)" : text
    }

    /// Whether the text is an SQL/JSON path already: it has another operator, or a filter.
    private static func isPath(_ text: String, _ sign: String.Index) -> Bool {
        if text[..<sign].contains(where: { "?<>!(&|".contains($0) }) { return true }
        return text[sign...].dropFirst().first == "="
    }

    /// Whether the text is a number, `true`, `false` or `null` in JSON.
    private static func isScalar(_ text: String) -> Bool {
        ["true", "false", "null"].contains(text)
            || text.wholeMatch(of: /-?(0|[1-9][0-9]*)(\.[0-9]+)?/) != nil
    }
}

/// A time, or how long ago it was.
struct MomentArgument: ExpressibleByArgument, Equatable {
    private var date: Date?
    private var ago: Duration?

    init?(argument: String) {
        if let duration = DurationArgument(argument: argument) {
            ago = duration.duration
        } else if let time = TimeArgument(argument: argument) {
            date = time.date
        } else {
            return nil
        }
    }

    /// The time, given the database's present time.
    func date(now: Date) -> Date? { date ?? ago.map { now.addingTimeInterval(-($0 / .seconds(1))) } }
}

/// The state that `worker jobs` searches for.
extension JobFilter.State: ExpressibleByArgument {
    package init?(argument: String) {
        let name = argument.replacing("-", with: "_")
        self.init(rawValue: name == "dead" ? "dead_letter" : name)
    }

    package static var allValueStrings: [String] { allCases.map { $0.rawValue.replacing("_", with: "-") } }
}

/// The options that say which jobs a search finds.
struct JobSearch: ParsableArguments {
    @Option(help: "Only jobs of this kind.")
    var kind: String?

    @Option(help: "Only jobs of this queue.")
    var queue: String?

    @Option(
        help: ArgumentHelp(
            "Only jobs in this state: \(JobFilter.State.allValueStrings.joined(separator: ", ")).",
            valueName: "state"
        )
    )
    var state: JobFilter.State?

    @Option(help: "Only jobs with this unique key, or with this value at the path of their history's or circuit's key.")
    var key: String?

    @Option(
        help: ArgumentHelp(
            "Only jobs with such a payload: '$.customer=17', or an SQL/JSON path, '$.total > 100'.",
            valueName: "path=value"
        )
    )
    var payload: PayloadCondition?

    @Option(help: "Only jobs that were enqueued, or that ended, since then: 2h (ago), or 2030-01-31T08:00:00Z.")
    var since: MomentArgument?

    @Option(help: "Only jobs that were enqueued, or that ended, before then.")
    var until: MomentArgument?

    func validate() throws {
        for (name, value) in [("--kind", kind), ("--queue", queue), ("--key", key)] where value == "" {
            throw ValidationError("\(name) is empty; leave it out for all.")
        }
    }

    func filter(now: Date) -> JobFilter {
        var filter = JobFilter()
        filter.kind = kind
        filter.queue = queue
        filter.state = state
        filter.key = key
        filter.path = payload?.path
        filter.since = since?.date(now: now)
        filter.until = until?.date(now: now)
        return filter
    }
}
