import Logging
import Synchronization

/// The log level of each logger. The levels may change while the program runs.
///
/// A level that is set for `breakwater.jobs` applies to that logger and to those whose labels begin with
/// `breakwater.jobs.`.
final class LogLevels: Sendable {
    /// The level of one label, which all of its loggers share.
    final class Level: Sendable {
        private let number: Atomic<Int>

        init(_ level: Logger.Level) { number = Atomic(level.number) }

        var current: Logger.Level {
            get { Logger.Level.allCases[number.load(ordering: .relaxed)] }
            set { number.store(newValue.number, ordering: .relaxed) }
        }
    }

    private struct State {
        var fallback: Logger.Level
        var given: [String: Logger.Level]
        var levels: [String: Level] = [:]

        /// The level that was given for the label, or for its longest prefix.
        func level(of label: String) -> Logger.Level {
            var words = label.split(separator: ".", omittingEmptySubsequences: false)
            while !words.isEmpty {
                if let level = given[words.joined(separator: ".")] { return level }
                words.removeLast()
            }
            return fallback
        }
    }

    private let state: Mutex<State>

    /// - Parameters:
    ///   - fallback: The level of labels for which none is given.
    ///   - given: The levels by label or by the prefix of labels.
    init(_ fallback: Logger.Level, _ given: [String: Logger.Level] = [:]) {
        state = Mutex(State(fallback: fallback, given: given))
    }

    /// The level of a label, which follows every later change.
    func level(of label: String) -> Level {
        state.withLock { state in
            if let level = state.levels[label] { return level }
            let level = Level(state.level(of: label))
            state.levels[label] = level
            return level
        }
    }

    /// Changes the levels, including those of loggers that are in use.
    func change(to fallback: Logger.Level, _ given: [String: Logger.Level]) {
        state.withLock { state in
            state.fallback = fallback
            state.given = given
            for (label, level) in state.levels { level.current = state.level(of: label) }
        }
    }
}

extension Logger.Level {
    fileprivate var number: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}
