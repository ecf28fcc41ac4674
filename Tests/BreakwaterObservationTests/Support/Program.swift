import Foundation
import Synchronization

/// A program of the system's, such as `promtool`, run by a test.
struct Program {
    var path: String

    static let promtool = Program(path: "/usr/bin/promtool")
    static let prometheus = Program(path: "/usr/bin/prometheus")

    /// What a test that needs Prometheus says when there is none.
    static let needsPrometheus = "prometheus is not installed: apt-get install prometheus"

    var isInstalled: Bool { FileManager.default.isExecutableFile(atPath: path) }

    /// Runs it to its end.
    ///
    /// - Returns: Its status, and both of its outputs.
    func run(_ arguments: [String], input: String = "", in directory: URL? = nil) async throws -> (
        status: Int32, output: String
    ) {
        try await withTemporaryDirectory { files in
            let started = try Started(self, arguments, input: input, files: files, directory: directory)
            let status = await started.end()
            return (status, started.output)
        }
    }

    /// One that runs.
    final class Started: Sendable {
        private let process: Mutex<Process>
        private let ended: AsyncStream<Int32>
        private let file: URL

        init(
            _ program: Program,
            _ arguments: [String],
            input: String = "",
            files: URL,
            directory: URL? = nil
        ) throws {
            file = files.appending(path: "output")
            let inputFile = files.appending(path: "input")
            try input.write(to: inputFile, atomically: false, encoding: .utf8)
            try Data().write(to: file)
            let process = Process()
            process.executableURL = URL(filePath: program.path)
            process.arguments = arguments
            process.currentDirectoryURL = directory ?? files
            process.standardInput = try FileHandle(forReadingFrom: inputFile)
            let output = try FileHandle(forWritingTo: file)
            process.standardOutput = output
            process.standardError = output
            let (stream, continuation) = AsyncStream.makeStream(of: Int32.self)
            ended = stream
            process.terminationHandler = { process in
                continuation.yield(process.terminationStatus)
                continuation.finish()
            }
            try process.run()
            self.process = Mutex(process)
        }

        var output: String { (try? String(contentsOf: file, encoding: .utf8)) ?? "" }

        var isRunning: Bool { process.withLock { $0.isRunning } }

        func stop() { process.withLock { $0.terminate() } }

        func end() async -> Int32 {
            var status: Int32 = -1
            for await code in ended { status = code }
            return status
        }
    }
}

/// Gives a test a directory of its own, and removes it afterwards.
func withTemporaryDirectory<Result>(_ body: (URL) async throws -> Result) async throws -> Result {
    let directory = FileManager.default.temporaryDirectory.appending(path: "observe-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    return try await body(directory)
}

/// The root of the repository.
let repository = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../..").standardized

/// What a test that needs the database's server says when there is none.
let needsServer = "BREAKWATER_TEST_DATABASE is not set"
