import Breakwater
import BreakwaterTesting
import Foundation
import Testing

@Suite struct SpoolTests {
    @Test func conforms() async throws {
        let spool = FileManager.default.temporaryDirectory.appending(path: "spool-\(UUID())")
        try FileManager.default.createDirectory(at: spool, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: spool) }
        let long = "\"" + String(repeating: "x", count: 2000) + "\""
        let suite = PluginConformance(scenarios: [
            .succeeds(Job(kind: "spool", payload: #"{"to": "ann"}"#), result: #"{"bytes": 13}"#),
            .discards(Job(kind: "spool", payload: long), name: "spool.tooLarge"),
            .logs(Job(kind: "spool"), "spooled"),
        ]) { SpoolPlugin(directory: spool, longest: 1000) }
        try await suite.check()
    }

    @Test func aMissingDirectoryIsAnOutage() async throws {
        let suite = PluginConformance(scenarios: [.unavailable(Job(kind: "spool"), name: "spool.missing")]) {
            SpoolPlugin(directory: URL(filePath: "/nowhere"))
        }
        try await suite.check()
    }
}
