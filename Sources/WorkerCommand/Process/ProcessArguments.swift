import Foundation

/// The arguments of this process.
package enum ProcessArguments {
    /// The arguments after the executable's name.
    ///
    /// The Swift runtime locates them next to the environment, and finds none if a preloaded library, such as
    /// libfaketime, has moved the environment. In that case they are read from `/proc/self/cmdline`.
    package static var words: [String] {
        let known = CommandLine.arguments
        guard known.count <= 1, let line = FileManager.default.contents(atPath: "/proc/self/cmdline") else {
            return Array(known.dropFirst())
        }
        return line.split(separator: 0, omittingEmptySubsequences: false).dropFirst().dropLast()
            .map { String(decoding: $0, as: UTF8.self) }
    }
}
