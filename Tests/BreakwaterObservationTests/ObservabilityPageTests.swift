import BreakwaterEndpoints
import Foundation
import Logging
import Testing

@testable import Breakwater

@Suite("The page about observability")
struct ObservabilityPageTests {
    private func page() throws -> String {
        try String(
            contentsOf: repository.appending(path: "Sources/Breakwater/Breakwater.docc/Observability.md"),
            encoding: .utf8
        )
    }

    /// Returns the cells of the tables in a section, up to the next section of the same level or above. Words in
    /// backquotes stay as they are.
    private func rows(_ section: String) throws -> [[String]] {
        let level = section.prefix { $0 == "#" }.count
        var isWithin = false
        var rows: [[String]] = []
        for line in try page().split(separator: "\n") {
            if line.hasPrefix("#") {
                let own = line.prefix { $0 == "#" }.count
                isWithin = line == section || (isWithin && own > level)
            }
            guard isWithin, line.hasPrefix("| `") else { continue }
            rows.append(
                line.dropFirst().dropLast().split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            )
        }
        try #require(!rows.isEmpty, "there is no table under \(section)")
        return rows
    }

    private func quoted(_ cell: String) -> [String] { cell.matches(of: /`([^`]+)`/).map { String($0.1) } }

    @Test("lists every metric with its form, its labels and its help, and no other", arguments: ["worker", "fleet"])
    func metrics(scope: String) throws {
        let rows = try rows(scope == "worker" ? "### Of one worker" : "### Of the fleet")
        let metrics = Metric.all.filter { $0.scope.rawValue == scope }
        #expect(rows.map { quoted($0[0]).joined() }.sorted() == metrics.map(\.name).sorted())
        for metric in metrics {
            let row = try #require(rows.first { $0[0] == "`\(metric.name)`" })
            #expect(row[1] == metric.form.rawValue, "\(metric.name)")
            #expect(quoted(row[2]) == metric.labels, "\(metric.name)")
            #expect(metric.help.hasPrefix(row[3]), "\(metric.name)")
        }
    }

    @Test("lists every endpoint, and no other")
    func endpoints() throws {
        let server = EndpointServer(
            address: ListenAddress(host: "127.0.0.1", port: 0),
            health: WorkerHealth(),
            metrics: { "" },
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
        let described = try rows("## Endpoints").map { [quoted($0[0]).joined(), $0[1]] }
        #expect(described == server.endpoints.map { [$0.path, $0.purpose] })
    }

    @Test("lists every attribute of spans, and no other")
    func spans() throws {
        #expect(try rows("## Traces").flatMap { quoted($0[0]) } == SpanKey.allCases.map(\.rawValue))
    }

    @Test("lists every variable that configures traces")
    func variables() throws {
        let source = try String(
            contentsOf: repository.appending(path: "Sources/BreakwaterOTLP/OTLPConfiguration.swift"),
            encoding: .utf8
        )
        let page = try page()
        for match in source.matches(of: /"(OTEL_[A-Z_]+)"/) where !match.1.contains("_OTLP_TRACES_") {
            #expect(page.contains("`\(match.1)`"), "\(match.1) is missing")
        }
    }

    @Test("lists every key and every label of log lines, and no other")
    func logs() throws {
        var keys: Set<String> = []
        var labels: Set<String> = []
        let sources = repository.appending(path: "Sources")
        let files = try #require(FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil))
        // The benchmarks, the example and the schema's embedding are not part of a worker. The dashboard and the
        // administration write no log lines of a worker.
        let others = [
            "/WorkerBench/", "/ExampleWorker/", "/embed-schema/", "/EmbedSchema/", "LineLogHandler",
            "/BreakwaterTesting/",
        ]
        for case let file as URL in files where file.pathExtension == "swift" {
            guard !others.contains(where: { file.path().contains($0) }) else { continue }
            let text = try String(contentsOf: file, encoding: .utf8)
            for literal in text.matches(of: /(?:metadata(?:\(with)?: |Logger\.Metadata = )\[/) {
                keys.formUnion(keysOfLiteral(text[literal.range.upperBound...]))
            }
            for match in text.matches(of: /metadata(?:Key: )?\[?"([a-z_.]+)"\]/) { keys.insert(String(match.1)) }
            for match in text.matches(of: /logger\[metadataKey: "([a-z_.]+)"\]/) { keys.insert(String(match.1)) }
            for match in text.matches(of: /Logger\(label: "(breakwater[a-z.]*)"\)/) { labels.insert(String(match.1)) }
            for match in text.matches(of: /Logger\(label: "\\\(prefix\)(\.[a-z]+)"\)/) {
                labels.insert("breakwater\(match.1)")
            }
        }
        #expect(keys.count > 20)
        let tables = try rows("## Logs").map { quoted($0[0]) }
        #expect(Set(tables.filter { $0[0].hasPrefix("breakwater") }.joined()) == labels)
        #expect(Set(tables.filter { !$0[0].hasPrefix("breakwater") }.joined()).symmetricDifference(keys) == [])
    }

    /// The keys of a dictionary literal whose bracket has just been opened. Keys are texts before a colon, outside of
    /// nested brackets.
    private func keysOfLiteral(_ text: Substring) -> [String] {
        var keys: [String] = []
        var depth = 0
        var rest = text
        while let character = rest.first {
            if depth == 0, let key = rest.prefixMatch(of: /"([a-z_.]+)":/) { keys.append(String(key.1)) }
            switch character {
            case "\"":
                // This skips the text, with its interpolations.
                rest = rest.dropFirst()
                var parentheses = 0
                while let next = rest.first, next != "\"" || parentheses > 0 {
                    if next == "(" { parentheses += 1 }
                    if next == ")" { parentheses -= 1 }
                    rest = rest.dropFirst()
                }
            case "[", "(", "{": depth += 1
            case "]" where depth == 0: return keys
            case "]", ")", "}": depth -= 1
            default: break
            }
            rest = rest.dropFirst()
        }
        return keys
    }
}
