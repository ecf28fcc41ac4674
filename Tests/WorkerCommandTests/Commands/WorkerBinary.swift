import Foundation
import Synchronization
import Testing

/// The built `worker`, run as people run it.
struct WorkerBinary {
    /// What a run came to.
    struct Ending {
        var status: Int32
        var output: String
        var errors: String
    }

    /// Beside the test bundle, where the package manager puts both.
    static let path = built("worker")

    /// The example of an executable with a handler written in Swift.
    static let example = built("ExampleWorker")

    /// The worker of `scripts/chaos`, whose handlers do what their payloads say.
    static let chaos = built("ChaosAgent")

    private static func built(_ name: String) -> URL {
        let bundle = Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") }?.bundleURL
        let executable = URL(filePath: CommandLine.arguments[0])
        let directories = [bundle?.deletingLastPathComponent(), executable.deletingLastPathComponent()]
        return directories.compactMap { $0?.appending(path: name) }
            .first { FileManager.default.isExecutableFile(atPath: $0.path()) } ?? URL(filePath: ".build/debug/\(name)")
    }

    /// Whether it was built, for suites that need it.
    static var isBuilt: Bool { FileManager.default.isExecutableFile(atPath: path.path()) }

    /// A run that goes on.
    final class Run: Sendable {
        private let process: Mutex<Process>
        private let ended: AsyncStream<Int32>
        private let directory: URL

        /// Starts the binary with exactly this environment, and `PATH`; on a terminal, where one is given.
        init(
            _ arguments: [String],
            program: URL = WorkerBinary.path,
            environment: [String: String] = [:],
            input: String? = nil,
            terminal: Int32? = nil
        ) throws {
            directory = FileManager.default.temporaryDirectory.appending(path: "worker-test-\(UUID().uuidString)")
            try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
            let process = Process()
            process.executableURL = program
            process.arguments = arguments
            process.environment = environment.merging(["PATH": "/usr/bin:/bin"]) { given, _ in given }
            process.standardOutput = try Self.file(directory.appending(path: "out"))
            process.standardError = try Self.file(directory.appending(path: "err"))
            let inputFile = directory.appending(path: "in")
            try (input ?? "").write(to: inputFile, atomically: false, encoding: .utf8)
            process.standardInput = try FileHandle(forReadingFrom: inputFile)
            if let terminal {
                let handle = FileHandle(fileDescriptor: terminal)
                (process.standardInput, process.standardOutput, process.standardError) = (handle, handle, handle)
            }
            let (stream, continuation) = AsyncStream.makeStream(of: Int32.self)
            ended = stream
            process.terminationHandler = { process in
                let isSignal = process.terminationReason == .uncaughtSignal
                continuation.yield(process.terminationStatus + (isSignal ? 128 : 0))
                continuation.finish()
            }
            try process.run()
            self.process = Mutex(process)
        }

        /// Sends a signal.
        func signal(_ number: Int32) {
            _ = process.withLock { kill($0.processIdentifier, number) }
        }

        /// What it has written to standard output so far.
        var output: String { (try? String(contentsOf: directory.appending(path: "out"), encoding: .utf8)) ?? "" }

        /// What it has written to standard error so far.
        var errors: String { (try? String(contentsOf: directory.appending(path: "err"), encoding: .utf8)) ?? "" }

        /// Waits for its end, and removes its files.
        func end() async throws -> Ending {
            var status: Int32 = -1
            for await code in ended { status = code }
            let output = try String(contentsOf: directory.appending(path: "out"), encoding: .utf8)
            let errors = errors
            try FileManager.default.removeItem(at: directory)
            return Ending(status: status, output: output, errors: errors)
        }

        private static func file(_ url: URL) throws -> FileHandle {
            _ = FileManager.default.createFile(atPath: url.path(), contents: nil)
            return try FileHandle(forWritingTo: url)
        }
    }

    /// Runs it to its end.
    static func run(
        _ arguments: [String],
        environment: [String: String] = [:],
        input: String? = nil
    ) async throws -> Ending {
        try await Run(arguments, environment: environment, input: input).end()
    }
}
