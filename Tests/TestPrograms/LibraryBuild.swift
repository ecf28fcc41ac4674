import Foundation
import Synchronization

/// Builds shared libraries with the machine's C and C++ compilers, which `scripts/test` installs.
public enum LibraryBuild {
    /// The reason why a library could not be built.
    public struct Failure: Error, CustomStringConvertible {
        /// The command and what it printed.
        public var description: String
    }

    /// The top of the repository.
    public static let repository = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../..").standardizedFileURL.path

    /// Copies the library of Tests/BreakwaterLibraryTests/Fixtures/probe.c, which is built once in a process.
    ///
    /// - Parameter path: Where to put the copy. A test that needs a library without the traces of other tests loads a
    ///   copy of its own.
    /// - Throws: ``Failure`` if the library cannot be built.
    public static func copyProbe(to path: String) async throws {
        try FileManager.default.copyItem(atPath: try await probe.value, toPath: path)
    }

    /// Unstructured, because all tests of the process share the build. Each awaits it.
    private static let probe = Task { try await build("probe.c") }

    /// Builds a library of Tests/BreakwaterLibraryTests/Fixtures.
    ///
    /// - Parameter source: The name of the file, in C or C++.
    /// - Returns: The library's path, which exists until the process ends.
    /// - Throws: ``Failure``.
    public static func build(_ source: String) async throws -> String {
        let directory = FileManager.default.temporaryDirectory.appending(path: "breakwater-library-\(UUID())").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        atExit { try? FileManager.default.removeItem(atPath: directory) }
        let library = "\(directory)/\(source).so"
        let options = "-O1 -Wall -Wextra -Werror -fPIC -shared -pthread -I '\(repository)/Sources/CBreakwaterHandler'"
        try await run(
            "\(source.hasSuffix(".c") ? "cc -std=c11" : "c++ -std=c++11") \(options) -o '\(library)' '\(source)'",
            in: repository + "/Tests/BreakwaterLibraryTests/Fixtures"
        )
        return library
    }

    /// Runs a command of the shell.
    ///
    /// - Parameters:
    ///   - command: The command.
    ///   - directory: The working directory.
    /// - Throws: ``Failure`` if its status is not 0.
    public static func run(_ command: String, in directory: String) async throws {
        let output = FileManager.default.temporaryDirectory.appending(path: "breakwater-build-\(UUID())").path
        defer { try? FileManager.default.removeItem(atPath: output) }
        let child = try Child(
            "/bin/sh",
            ["-c", "exec 2>&1; \(command)"],
            directory: directory,
            output: .file(output)
        )
        let status = await child.end()
        guard status != 0 else { return }
        let printed = (try? String(contentsOfFile: output, encoding: .utf8)) ?? ""
        throw Failure(description: "\(command)\nended with status \(status):\n\(printed)")
    }

    private static let leftovers = Mutex<[@Sendable () -> Void]>([])

    /// Calls the body when the process of the tests ends.
    private static func atExit(_ body: @escaping @Sendable () -> Void) {
        let isFirst = leftovers.withLock { leftovers in
            leftovers.append(body)
            return leftovers.count == 1
        }
        guard isFirst else { return }
        atexit {
            for body in LibraryBuild.leftovers.withLock({ $0 }) { body() }
        }
    }
}
