import Breakwater
import Foundation
import Libpq
import WorkerCommand

/// A worker in a separate process, which runs `worker bench work`.
struct BenchProcess {
    struct Report: Codable, Sendable {
        var runs: Int
        var peakMemoryBytes: Int64?

        enum CodingKeys: String, CodingKey {
            case runs
            case peakMemoryBytes = "peak_memory_bytes"
        }
    }

    private let process = Process()
    private let output = Pipe()

    init(_ load: BenchLoad, _ database: ConnectionOptions) throws {
        process.executableURL = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = ["bench", "work", "--json"] + load.arguments
        // The connection string may hold a password, so it is not passed as an argument.
        process.environment = ProcessInfo.processInfo.environment.merging(
            ["BREAKWATER_DATABASE": database.conninfo]
        ) { $1 }
        process.standardOutput = output
        try process.run()
    }

    func end() {
        if process.isRunning { process.terminate() }
    }

    /// The report that the process printed when it ended.
    func report() throws -> Report {
        let data = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        guard let report = try? JSONDecoder().decode(Report.self, from: data) else {
            throw CommandFailure(.unexpected, "a worker process ended with status \(process.terminationStatus) early")
        }
        return report
    }
}

extension BenchLoad {
    /// The options that make `worker bench work` handle this load.
    var arguments: [String] {
        var arguments = [
            "--kinds", "\(kinds)", "--queues", "\(queues)", "--idle-kinds", "\(idleKinds)",
            "--handler-time", handlerTime.text, listens ? "--listen" : "--no-listen",
        ]
        if let concurrency { arguments += ["--concurrency", "\(concurrency)"] }
        if let circuitKey { arguments += ["--circuit-key", circuitKey] }
        if history { arguments.append("--history") }
        if let historyKey { arguments += ["--history-key", historyKey] }
        if let program { arguments += program.arguments }
        if let pollInterval { arguments += ["--poll-interval", pollInterval.text] }
        return arguments
    }
}
