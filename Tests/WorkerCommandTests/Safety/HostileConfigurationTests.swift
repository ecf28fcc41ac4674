import BreakwaterTesting
import Foundation
import Testing

@testable import WorkerCommand

@Suite("A hostile configuration file")
struct HostileConfigurationTests {
    /// Reads a file, and returns why it is refused, or nil if it is not.
    private func refusal(of text: String) throws -> String? {
        do {
            _ = try ConfigurationLoader().load(ConfigurationFile(name: "f.yaml", text: text))
            return nil
        } catch let error as ConfigurationError {
            return error.description
        }
    }

    /// Aliases that stand for nine aliases each, nine levels deep, which makes nine to the ninth values.
    private static let bomb =
        "a0: &a0 [x, x]\n"
        + (1...9).map { level in
            "a\(level): &a\(level) [" + Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ") + "]\n"
        }.joined()

    private static let files: [String: String] = [
        "of aliases to aliases": bomb,
        "of aliases to aliases as a value":
            bomb + "handlers: { k: { exec: { command: [cat] }, circuit: { fallback: { succeed: *a9 } } } }",
        "of aliases to aliases as a key": bomb + "? *a9\n: 1",
        "with an alias to itself": "handlers: &a { k: *a }",
        "with an alias to nothing": "handlers: *nobody",
        "nested too deep": String(repeating: "[", count: 100_000),
        "nested deep in blocks": (0..<2000).map { String(repeating: " ", count: $0) + "a:\n" }.joined(),
        "with a fallback nested deep": "handlers: { k: { exec: { command: [cat] }, circuit: { fallback: { succeed: "
            + String(repeating: "[", count: 900) + String(repeating: "]", count: 900) + " } } } }",
        "with a key twice": "lease: 1s\nlease: 2s",
        "with a key twice in a handler": "handlers: { k: { exec: { command: [cat] }, exec: { command: [ls] } } }",
        "with a list as a key": "? [a, b]\n: 1",
        "with a huge key": String(repeating: "k", count: 1 << 20) + ": 1",
        "with a huge value": "lease: " + String(repeating: "9", count: 1 << 20),
        "with 100,000 keys": (0..<100_000).map { "k\($0): 1\n" }.joined(),
        "with 50,000 handlers": "handlers:\n" + (0..<50_000).map { "  k\($0): {}\n" }.joined(),
        "with two documents": "lease: 1s\n---\nlease: 2s",
        "that is a list": "[1, 2]", "that is a text": "hello", "that is a number": "7",
        "with NUL": "lease: \"a\0b\"", "with an escaped NUL": #"name: "a\0b""#,
        "with tabs": "handlers:\n\tk: 1", "with a tag": "lease: !!python/object:os.system [id]",
        "with a binary tag": "lease: !!binary aGVsbG8=", "with a merge": "a: &a { lease: 1s }\n<<: *a",
        "with a directive": "%YAML 9.9\n---\nlease: 1s",
        "with variables in variables": "lease: ${${HOME}}", "with a variable without end": "lease: ${HOME",
        "with a hundred thousand variables": "lease: \"" + String(repeating: "${X:-}", count: 100_000) + "\"",
    ]

    @Test("is refused quickly, in a few words that name the place", arguments: files.keys.sorted())
    func refused(name: String) throws {
        let text = try #require(Self.files[name])
        let start = ContinuousClock.now
        let refusal = try #require(try self.refusal(of: text))
        #expect(.now - start < .seconds(300))
        #expect(refusal.contains("f.yaml:"))
        #expect(refusal.utf8.count < 100_000)
    }

    @Test("with an alias or two is fine")
    func aliases() throws {
        let refusal = try self.refusal(
            of: """
                handlers:
                  a: { exec: &run { command: [cat] }, retry: &slowly { base: 1m } }
                  b: { exec: *run, retry: *slowly }
                """
        )
        #expect(refusal == nil)
    }

    @Test("with any text as any value is read, or refused in lines of a readable length")
    func values() async throws {
        let keys = [
            "lease", "concurrency", "queues", "name", "listen", "log_level", "handlers.k.timeout",
            "handlers.k.concurrency",
            "handlers.k.retry.base", "handlers.k.retry.factor", "handlers.k.retry.retry_on", "handlers.k.retry.budget",
            "handlers.k.circuit.failure_rate", "handlers.k.circuit.window", "handlers.k.circuit.key",
            "handlers.k.circuit.fallback", "handlers.k.exec.working_directory", "handlers.k.exec.environment",
            "handlers.k.exec.max_output", "handlers.k.http.url", "handlers.k.http.secret", "handlers.k.http.allow",
        ]
        for key in keys {
            for sample in HostileCorpus.texts {
                // Other tests need the thread too.
                await Task.yield()
                for value in [
                    sample.value.jsonText, "[\(sample.value.jsonText)]", "{ \(sample.value.jsonText): 1 }", "~",
                ] {
                    var text = value
                    for part in key.split(separator: ".").reversed() { text = "{ \(part): \(text) }" }
                    guard let refusal = try self.refusal(of: text) else { continue }
                    #expect(refusal.utf8.count < 20_000, "\(key): \(sample)")
                    #expect(refusal.contains("f.yaml:"), "\(key): \(sample)")
                }
            }
        }
    }

    @Test("that is not text, or not a file, is refused")
    func notText() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "hostile-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        var paths = ["/dev/zero", "/dev/null/x", directory.path(), "", "a\0b"]
        for (number, sample) in HostileCorpus.outputs.enumerated()
        where String(validating: sample.value, as: UTF8.self) == nil {
            let file = directory.appending(path: "\(number).yaml")
            try Data(sample.value).write(to: file)
            paths.append(file.path())
        }
        for path in paths {
            let error = #expect(throws: ConfigurationError.self) { try ConfigurationFile(path: path) }
            #expect(error?.problems.first?.message.isEmpty == false)
        }
    }
}
