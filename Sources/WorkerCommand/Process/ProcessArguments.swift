import Foundation

/// What this process was called with.
package enum ProcessArguments {
    /// The words after the executable's name.
    ///
    /// The Swift runtime looks for them beside the environment, and finds none once a preloaded library (libfaketime,
    /// for one) has moved that. The kernel still knows.
    package static var words: [String] {
        let known = CommandLine.arguments
        guard known.count <= 1, let line = FileManager.default.contents(atPath: "/proc/self/cmdline") else {
            return Array(known.dropFirst())
        }
        return line.split(separator: 0, omittingEmptySubsequences: false).dropFirst().dropLast()
            .map { String(decoding: $0, as: UTF8.self) }
    }
}
