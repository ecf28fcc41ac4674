import Breakwater
import BreakwaterLibrary
import BreakwaterTesting
import Foundation
import Glibc
import TestPrograms
import Testing

/// A copy of the probe that belongs to one test.
struct Probe: Sendable {
    /// The library's path.
    let path: String
    /// What the plugin has logged.
    let log = RecordedLog()

    /// A number that the library counts.
    func count(_ name: String) throws -> Int { Int(try variable(name).load(as: Int32.self)) }

    /// How often the library was opened and closed.
    var opensAndCloses: [Int] {
        get throws { [try count("probe_opens"), try count("probe_closes")] }
    }

    /// Lets runs go on that wait for this.
    func release() throws { try variable("probe_released").storeBytes(of: 1, as: Int32.self) }

    private func variable(_ name: String) throws -> UnsafeMutableRawPointer {
        // The loader returns the handle of the library that is loaded already.
        let handle = try #require(dlopen(path, RTLD_NOW | RTLD_NOLOAD))
        defer { dlclose(handle) }
        return try #require(dlsym(handle, name))
    }
}

/// Gives the body a plugin with a probe of its own, and stops it afterwards.
func withProbe(
    settings: String = "{}",
    threads: Int = 4,
    maxResultBytes: Int = 1 << 20,
    _ body: (LibraryPlugin, Probe) async throws -> Void
) async throws {
    try await withTemporaryDirectory { directory in
        let probe = Probe(path: directory + "/probe.so")
        try await LibraryBuild.copyProbe(to: probe.path)
        let plugin = try LibraryPlugin(
            path: probe.path,
            settings: settings,
            threads: threads,
            maxResultBytes: maxResultBytes
        )
        await plugin.start(logger: probe.log.logger())
        do {
            try await body(plugin, probe)
            await plugin.stop()
        } catch {
            try? probe.release()
            await plugin.stop()
            throw error
        }
    }
}

/// Runs a job whose payload is this word.
func run(
    _ word: String,
    in plugin: LibraryPlugin,
    log: RecordedLog = RecordedLog(),
    reports: RunReports? = nil
) async throws -> JobOutcome {
    try await run(Job(kind: "test", payload: "\"\(word)\""), in: plugin, log: log, reports: reports)
}

func run(
    _ job: Job,
    in plugin: LibraryPlugin,
    log: RecordedLog = RecordedLog(),
    reports: RunReports? = nil
) async throws -> JobOutcome {
    var context = JobContext(job: job, deadline: .now + .seconds(60), logger: log.logger())
    context.reports = reports
    return try await plugin.run(job, context: context)
}

/// Runs a job whose payload is this word, and expects an outcome.
func expect(
    _ word: String,
    in plugin: LibraryPlugin,
    log: RecordedLog = RecordedLog(),
    reports: RunReports? = nil,
    endsAs expected: JobOutcome,
    sourceLocation: SourceLocation = #_sourceLocation
) async throws {
    let outcome = try await run(word, in: plugin, log: log, reports: reports)
    #expect(outcome == expected, "\(word)", sourceLocation: sourceLocation)
}

/// Gives the body a temporary directory of its own.
func withTemporaryDirectory<Result>(_ body: (String) async throws -> Result) async throws -> Result {
    let directory = FileManager.default.temporaryDirectory.appending(path: "breakwater-library-\(UUID())").path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    return try await body(directory)
}
