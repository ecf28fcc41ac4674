import Foundation
import TestPrograms

/// An installed program, such as `promtool`, that a test runs.
struct Program {
    var path: String

    static let promtool = Program(path: "/usr/bin/promtool")
    static let prometheus = Program(path: "/usr/bin/prometheus")

    /// The reason why tests that need Prometheus are skipped.
    static let needsPrometheus = "prometheus is not installed: apt-get install prometheus"

    var isInstalled: Bool { FileManager.default.isExecutableFile(atPath: path) }

    /// Runs the program to its end.
    ///
    /// - Returns: Its status, and its standard output and error.
    func run(_ arguments: [String], input: String = "", in directory: URL? = nil) async throws -> (
        status: Int32, output: String
    ) {
        try await withTemporaryDirectory { files in
            let started = try Started(self, arguments, input: input, files: files, directory: directory)
            let status = await started.end()
            return (status, started.output)
        }
    }

    /// A running program.
    final class Started: Sendable {
        private let child: Child
        private let file: String

        init(
            _ program: Program,
            _ arguments: [String],
            input: String = "",
            files: URL,
            directory: URL? = nil
        ) throws {
            file = files.appending(path: "output").path
            let inputFile = files.appending(path: "input").path
            try input.write(toFile: inputFile, atomically: false, encoding: .utf8)
            _ = FileManager.default.createFile(atPath: file, contents: nil)
            let output = try FileHandle(forWritingTo: URL(filePath: file))
            child = try Child(
                program.path,
                arguments,
                directory: (directory ?? files).path,
                input: .file(inputFile),
                output: .descriptor(output.fileDescriptor),
                errors: .descriptor(output.fileDescriptor)
            )
        }

        var output: String { (try? String(contentsOfFile: file, encoding: .utf8)) ?? "" }

        var isRunning: Bool { child.isRunning }

        func stop() { child.signal(SIGTERM) }

        func end() async -> Int32 { await child.end() }
    }
}

/// Gives a test a temporary directory of its own, and removes it afterwards.
func withTemporaryDirectory<Result>(_ body: (URL) async throws -> Result) async throws -> Result {
    let directory = FileManager.default.temporaryDirectory.appending(path: "observe-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    return try await body(directory)
}

/// The root of the repository.
let repository = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../..").standardized

/// The reason why tests that need the database's server are skipped.
let needsServer = "BREAKWATER_TEST_DATABASE is not set"
