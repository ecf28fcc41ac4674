/// One thing that is wrong with the configuration.
struct ConfigurationProblem: Sendable, Equatable, CustomStringConvertible {
    /// Where the value came from.
    var origin: SettingOrigin
    /// The setting by its path, such as `handlers.email.send.retry.base`; empty for the file as a whole.
    var key: String
    /// The value at fault and what is allowed.
    var message: String

    /// `worker.yaml:12: concurrency: '0' is not allowed; give a whole number from 1 to 10000`.
    var description: String {
        [origin.place, key.isEmpty ? nil : key.abbreviated, message.abbreviated].compactMap(\.self)
            .joined(separator: ": ")
    }
}

extension String {
    /// The text itself, or its beginning and its end if it is long. A message names the value at fault, which may be of
    /// any length.
    var abbreviated: String {
        guard utf8.count > 1000 else { return self }
        let scalars = unicodeScalars
        return String(scalars.prefix(200)) + " … " + String(scalars.suffix(150))
    }
}

/// Where a setting's value came from.
enum SettingOrigin: Sendable, Equatable {
    /// A line of the file.
    case file(name: String, line: Int)
    /// A variable of the environment.
    case environment(variable: String)
    /// A flag of the command line.
    case flag(name: String)
    /// The Swift code that registered the handler.
    case code
    /// The default, because no value was given.
    case fallback

    /// The beginning of a message, which says where the value was given; nil where there is no such place.
    var place: String? {
        switch self {
        case .file(let name, let line): "\(name):\(line)"
        case .environment(let variable): "environment variable \(variable)"
        case .flag(let name): name
        case .code: "registered in Swift"
        case .fallback: nil
        }
    }

    /// The comment beside the value in the effective configuration.
    var label: String {
        switch self {
        case .file(let name, let line): "file, \(name):\(line)"
        case .environment(let variable): "environment, \(variable)"
        case .flag(let name): "flag, \(name)"
        case .code: "registered in Swift"
        case .fallback: "default"
        }
    }
}

/// All problems with the configuration. They are found before any job is claimed.
struct ConfigurationError: Error, Equatable, CustomStringConvertible {
    /// The problems, in the order of the file; never empty.
    var problems: [ConfigurationProblem]

    /// One line for each problem, below a line that says how many there are.
    var description: String {
        let isMore = problems.count == ConfigurationContext.mostProblems
        let count = problems.count == 1 ? "a problem" : "\(isMore ? "at least " : "")\(problems.count) problems"
        return (["the configuration has \(count); nothing was started:"] + problems.map { "  \($0)" })
            .joined(separator: "\n")
    }
}
