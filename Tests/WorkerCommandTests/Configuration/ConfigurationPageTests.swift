import Breakwater
import Foundation
import TestPrograms
import Testing
import Yams

@testable import WorkerCommand

@Suite("The page about configuration")
struct ConfigurationPageTests {
    /// One line of the page's tables.
    private struct Row {
        /// The key's path, with `*` for a kind.
        var key: String
        var fallback: String
    }

    /// The lines of all tables. `Keys of `a.b`.` above a table says which section its keys are in.
    private func rows() throws -> [Row] {
        let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../../")
        let page = try String(
            contentsOf: root.appending(path: "Sources/Breakwater/Breakwater.docc/Configuration.md"),
            encoding: .utf8
        )
        var rows: [Row] = []
        var section = ""
        for line in page.split(separator: "\n") {
            if line.hasPrefix("#") { section = "" }
            if let match = line.prefixMatch(of: /Keys of `([^`]+)`/) { section = "\(match.1)." }
            guard line.hasPrefix("| `") else { continue }
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            try #require(cells.count == 4, "\(line)")
            rows.append(Row(key: section + cells[0].replacing("`", with: ""), fallback: cells[2]))
        }
        return rows
    }

    /// Loads a configuration with a handler of each plugin and no optional key but a limit, whose keys are known only if
    /// there is one.
    private func loaded() async throws -> LoadedConfiguration {
        let library = try await LibraryBuild.build("probe.c")
        return try load(
            """
            dashboard: { proxy: { header: X-User, secret: 0123456789abcdef } }
            schedules: { s: { every: 1s, kind: exec-kind } }
            handlers:
              exec-kind: { exec: { command: [cat] }, limits: { concurrency: 5 } }
              http-kind: { http: { url: "http://h/" } }
              stdio-kind: { stdio: { command: [cat] } }
              sql-kind: { sql: { function: app.f, role: r } }
              library-kind: { library: { path: "\(library)" } }
              swift-kind: { swift: {} }
            """,
            registered: [HandlerRegistration(kind: "swift-kind", handler: Idle())]
        )
    }

    @Test("lists every key that the loader knows, and no other")
    func keys() async throws {
        let kinds = /^handlers\.(exec|http|library|sql|stdio|swift)-kind/
        let known = try await loaded().knownKeys
            .map { $0.replacing(kinds, with: "handlers.*").replacing(/^schedules\.s/, with: "schedules.*") }
            .filter { !["handlers.*", "schedules.*"].contains($0) }
        let described = try rows().map(\.key)
        #expect(Set(described).subtracting(known) == [], "these are on the page, but not in the loader")
        #expect(Set(known).union(TopLevelSettings.keys).subtracting(described) == [], "these are missing on the page")
        #expect(Set(described).count == described.count, "a key is described twice")
    }

    @Test("gives the loader's defaults")
    func defaults() async throws {
        let effective = try #require(try Yams.compose(yaml: try await loaded().effectiveText))
        for row in try rows() where row.fallback.hasPrefix("`") {
            let plugin =
                row.key.firstMatch(of: /\.(exec|http|library|sql|stdio)\./).map { "\($0.1)-kind" } ?? "exec-kind"
            var node: Node? = effective
            for name in row.key.split(separator: ".") {
                node = node?[name == "*" ? (row.key.hasPrefix("schedules.") ? "s" : plugin) : String(name)]
            }
            let described = try #require(try Yams.compose(yaml: row.fallback.replacing("`", with: "")))
            #expect(node == described, "\(row.key)")
        }
    }
}
