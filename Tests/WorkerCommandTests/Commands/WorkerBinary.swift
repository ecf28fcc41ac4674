import Foundation
import TestPrograms

/// The built `worker`, run in the way that users run it.
struct WorkerBinary {
    /// The result of a run.
    struct Ending {
        var status: Int32
        var output: String
        var errors: String
    }

    /// The package manager puts the executable beside the test bundle.
    static let path = built("worker")

    /// The example of an executable with a handler written in Swift.
    static let example = built("ExampleWorker")

    /// The example of a web server with a worker beside it.
    static let server = built("ExampleServer")

    /// The worker of `scripts/chaos`, whose handlers do what their payloads say.
    static let chaos = built("ChaosAgent")

    private static func built(_ name: String) -> URL {
        let bundle = Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") }?.bundleURL
        let executable = URL(filePath: CommandLine.arguments[0])
        let directories = [bundle?.deletingLastPathComponent(), executable.deletingLastPathComponent()]
        return directories.compactMap { $0?.appending(path: name) }
            .first { FileManager.default.isExecutableFile(atPath: $0.path()) } ?? URL(filePath: ".build/debug/\(name)")
    }

    /// Whether the executable was built, for suites that need it.
    static var isBuilt: Bool { FileManager.default.isExecutableFile(atPath: path.path()) }

    /// A running process.
    final class Run: Sendable {
        private let child: Child
        private let directory: String

        /// The environment that every program gets: a path, and the options of the sanitizer, if there is one.
        private static let surroundings = ProcessInfo.processInfo.environment
            .filter { ["ASAN_OPTIONS", "TSAN_OPTIONS"].contains($0.key) }
            .merging(["PATH": "/usr/bin:/bin"]) { $1 }

        /// Starts the binary with exactly this environment and `PATH`, on a terminal if one is given.
        init(
            _ arguments: [String],
            program: URL = WorkerBinary.path,
            environment: [String: String] = [:],
            input: String? = nil,
            terminal: Int32? = nil
        ) throws {
            let url = FileManager.default.temporaryDirectory.appending(path: "worker-test-\(UUID().uuidString)")
            directory = url.path
            try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
            try (input ?? "").write(toFile: "\(directory)/in", atomically: false, encoding: .utf8)
            child = try Child(
                program.path(),
                arguments,
                environment: environment.merging(Self.surroundings) { given, _ in given },
                input: terminal.map { .descriptor($0) } ?? .file("\(directory)/in"),
                output: terminal.map { .descriptor($0) } ?? .file("\(directory)/out"),
                errors: terminal.map { .descriptor($0) } ?? .file("\(directory)/err")
            )
        }

        /// The id of the process.
        var processIdentifier: Int32 { child.processIdentifier }

        /// Sends a signal.
        func signal(_ number: Int32) { child.signal(number) }

        /// The text that the process has written to standard output so far.
        var output: String { text(of: "out") }

        /// The text that the process has written to standard error so far.
        var errors: String { text(of: "err") }

        /// Waits for the end of the process, and removes its files.
        func end() async throws -> Ending {
            let status = await child.end()
            let ending = Ending(status: status, output: output, errors: errors)
            try FileManager.default.removeItem(atPath: directory)
            return ending
        }

        private func text(of file: String) -> String {
            (try? String(contentsOfFile: "\(directory)/\(file)", encoding: .utf8)) ?? ""
        }
    }

    /// Runs the executable to its end.
    static func run(
        _ arguments: [String],
        environment: [String: String] = [:],
        input: String? = nil
    ) async throws -> Ending {
        try await Run(arguments, environment: environment, input: input).end()
    }
}
