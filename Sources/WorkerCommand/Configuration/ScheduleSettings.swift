import Breakwater
import Yams

extension [Schedule] {
    /// Reads `schedules`, and reports what is wrong.
    init(_ root: ConfigurationSection) {
        self = []
        let section = root.readSection("schedules")
        let rule = ValueRule<String>.text("a schedule's name", bytes: SettingLimits.nameBytes)
        for entry in section.entries {
            section.know([entry.name])
            do {
                _ = try rule.read(entry.name)
            } catch {
                section.report(entry.name, error.message)
            }
            let schedule = section.readSection(entry.name)
            if let schedule = Schedule(schedule, name: entry.name) { append(schedule) }
            section.record(schedule, as: entry.name)
        }
        if root.has("schedules") { root.record(section, as: "schedules") }
    }

    /// Warns of schedules whose jobs this worker does not run.
    func warnOfKinds(without handlers: [HandlerRegistration], _ context: ConfigurationContext) {
        for schedule in self where !handlers.contains(where: { $0.kind == schedule.kind }) {
            context.warn(
                context.problem(
                    with: "schedules.\(schedule.name.escapingControlCharacters).kind",
                    "this worker has no handler of the kind '\(schedule.kind)'; another worker must have one"
                )
            )
        }
    }
}

extension Schedule {
    /// Reads one schedule. The database checks the cron expression and the time zone when the worker starts.
    fileprivate init?(_ section: ConfigurationSection, name: String) {
        let cron = section.readIfPresent("cron", .text("a cron expression", bytes: 1...500))
        let every = section.readIfPresent("every", .wholeSeconds(SettingLimits.every))
        let timeZone = section.read(
            "time_zone",
            .text("a time zone's name", bytes: SettingLimits.nameBytes),
            default: "UTC"
        )
        let kind = section.readIfPresent("kind", .kind)
        self.init(name: name, .cron(""), kind: kind ?? "")
        self.timeZone = timeZone
        queue = section.read("queue", .text("a queue's name", bytes: SettingLimits.nameBytes), default: queue)
        readPayload(section)
        priority = section.read("priority", .whole(SettingLimits.priority), default: priority)
        uniqueKey = section.readIfPresent("unique_key", .text("a key", bytes: SettingLimits.uniqueKeyBytes))
        missed = section.read("missed", .choice, default: missed)
        missedAfter = section.read("missed_after", .duration(SettingLimits.missedAfter), default: missedAfter)
        missedLimit = section.read("missed_limit", .whole(SettingLimits.missedLimit), default: missedLimit)
        overlap = section.read("overlap", .choice, default: overlap)

        guard !section.isMalformed else { return nil }
        switch (section.has("cron"), section.has("every")) {
        case (false, false):
            section.report("nothing says when it runs; give cron: \"0 3 * * *\" or every: 90s")
        case (true, true):
            section.report("every", "there is a cron as well; give one of them")
        default: break
        }
        if !section.has("kind") {
            section.report("kind", "a schedule needs the kind of its jobs, such as report.build")
        }
        if section.has("every"), section.has("time_zone") {
            section.report("time_zone", "an interval follows UTC; leave the time zone out, or give a cron")
        }
        guard section.isFine else { return nil }
        if let cron { times = .cron(cron) }
        if let every { times = .every(every) }
    }

    /// Reads `payload`, a mapping that becomes a JSON object.
    private mutating func readPayload(_ section: ConfigurationSection) {
        var shown = payload
        defer { section.effective.append(EffectiveEntry(key: "payload", value: .json(shown))) }
        guard let entry = section.entry("payload") else { return }
        do throws(ValueRefusal) {
            guard case .mapping(let mapping) = entry.node else {
                throw ValueRefusal("\(entry.node.description(limit: 60)) is not a mapping; give { key: value }")
            }
            guard !mapping.contains(where: { $0.key.scalar?.string == "schedule" }) else {
                throw ValueRefusal("each job's payload gets the key 'schedule' with its slot; give it another name")
            }
            let json = try entry.node.json { text throws(ValueRefusal) in
                try Substitution.apply(to: text, environment: section.context.environment).text
            }
            guard JobResult.isStorable(json) else {
                throw ValueRefusal("this is no JSON value that Postgres can store; are its lists nested that deep?")
            }
            payload = json
            // Variables may be secrets, so their names are shown.
            shown = try entry.node.json { text throws(ValueRefusal) in text }
        } catch {
            section.report("payload", error.message)
        }
    }
}

extension ValueRule where Value == Duration {
    /// A duration of whole seconds in a range.
    static func wholeSeconds(_ range: ClosedRange<Duration>) -> Self {
        let rule = ValueRule.duration(range)
        return Self(
            allowed: "\(rule.allowed), in whole seconds",
            parse: { text in try rule.parse(text).flatMap { $0.components.attoseconds == 0 ? $0 : nil } },
            text: rule.text
        )
    }
}
