import BreakwaterTesting
import Breakwater
import BreakwaterExec
import Testing

@Suite struct OutputTests {
    @Test(arguments: [
        ("echo '{\"a\": [1, true, null]}'", "{\"a\": [1, true, null]}"),
        ("echo ' 42 '", "42"),
        ("echo abc", "\"abc\\n\""),
        ("printf 'a\\000b'", "\"ab\""),
        ("printf 'a\\377b'", "\"a\u{FFFD}b\""),
        ("printf '\"\\\\u0000x\"'", "\"x\""),
        ("printf '{\"a\":1} trailing'", "\"{\\\"a\\\":1} trailing\""),
    ])
    func outputBecomesAResultThatJSONBAccepts(script: String, result: String) async throws {
        #expect(try await run(script) == .succeeded(result: result))
    }

    @Test(arguments: ["true", "echo", "printf ' \\n\\t '"])
    func noOutputIsNoResult(script: String) async throws {
        #expect(try await run(script) == .succeeded(result: nil))
    }

    @Test func aHundredMegabytesAreReadAndCut() async throws {
        let log = RecordedLog()
        let outcome = try await run("head -c 104857600 /dev/zero | tr '\\0' x", log: log, maxOutputBytes: 1000)
        #expect(outcome == .succeeded(result: "\"" + String(repeating: "x", count: 1000) + "\""))
        #expect(log.warnings.count == 1)
    }

    @Test func theCutFallsBetweenCharacters() async throws {
        #expect(try await run("printf 'aé€'", maxOutputBytes: 5) == .succeeded(result: "\"aé\""))
    }

    @Test func outputAtTheBoundIsWhole() async throws {
        let log = RecordedLog()
        #expect(try await run("printf '[1,2]'", log: log, maxOutputBytes: 5) == .succeeded(result: "[1,2]"))
        #expect(log.warnings.isEmpty)
    }

    @Test func bothStreamsAtOnceDoNotBlock() async throws {
        let outcome = try await run(
            "head -c 20000000 /dev/zero | tr '\\0' x >&2 & head -c 20000000 /dev/zero | tr '\\0' y; wait",
            maxOutputBytes: 3
        )
        #expect(outcome == .succeeded(result: "\"yyy\""))
    }

    @Test func nothingOfTheLastOutputIsLost() async throws {
        // The output is as much as a pipe holds, from a program that ends at once.
        for _ in 0..<50 {
            let outcome = try await run("head -c 60000 /dev/zero | tr '\\0' x")
            #expect(outcome == .succeeded(result: "\"" + String(repeating: "x", count: 60000) + "\""))
        }
    }
}
