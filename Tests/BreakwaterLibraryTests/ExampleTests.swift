import Breakwater
import BreakwaterLibrary
import BreakwaterTesting
import Foundation
import TestPrograms
import Testing

@Suite("The examples of libraries") struct ExampleTests {
    /// Builds an example with the command of its README, in a folder like its own, and gives the library's path to the
    /// body.
    private func withExample(_ name: String, _ body: (String) async throws -> Void) async throws {
        try await withTemporaryDirectory { directory in
            let files = FileManager.default
            let folder = "\(directory)/Examples/\(name)"
            try files.createDirectory(atPath: directory + "/Examples", withIntermediateDirectories: true)
            try files.copyItem(atPath: "\(LibraryBuild.repository)/Examples/\(name)", toPath: folder)
            try files.createSymbolicLink(
                atPath: directory + "/Sources",
                withDestinationPath: LibraryBuild.repository + "/Sources"
            )
            let command = try block("sh", of: folder + "/README.md")
            let library = try #require(command.firstMatch(of: /-o (\S+\.so)/)).1
            try await LibraryBuild.run(command, in: folder)
            try await body("\(folder)/\(library)")
        }
    }

    /// The first block of code in this language in a page.
    private func block(_ language: String, of path: String) throws -> String {
        let page = try String(contentsOfFile: path, encoding: .utf8)
        let start = try #require(page.firstRange(of: "\n```\(language)\n")).upperBound
        let end = try #require(page[start...].firstRange(of: "\n```")).lowerBound
        return String(page[start..<end])
    }

    private func with(
        _ path: String,
        settings: String = "{}",
        _ body: (LibraryPlugin) async throws -> Void
    ) async throws {
        let plugin = try LibraryPlugin(path: path, settings: settings)
        do {
            try await body(plugin)
            await plugin.stop()
        } catch {
            await plugin.stop()
            throw error
        }
    }

    private func result(of payload: String, in plugin: LibraryPlugin) async throws -> JobOutcome {
        try await run(Job(kind: "test", payload: payload), in: plugin)
    }

    @Test("in C finds factors, reports, goes on from a checkpoint, and ends when it is cancelled")
    func factor() async throws {
        try await withExample("library-c") { path in
            try await with(path) { plugin in
                #expect(try await result(of: "600851475143", in: plugin) == .succeeded(result: "[71,839,1471,6857]"))
                #expect(try await result(of: "1", in: plugin) == .succeeded(result: "[]"))
                for payload in ["\"7\"", "0", "-7", "7.5", "1e3", "1234567890123456789", "[]"] {
                    guard case .discarded(let failure) = try await result(of: payload, in: plugin) else {
                        Issue.record("\(payload) is not discarded")
                        continue
                    }
                    #expect(failure.name == "factor.badPayload")
                }
                // A prime number, whose divisors take a while.
                let reports = RunReports()
                let job = Job(kind: "test", payload: "999999999999999989")
                // Unstructured, because the test cancels it alone. It is awaited below.
                let slow = Task { try await run(job, in: plugin, reports: reports) }
                try await waitUntil("it has reported") { reports.latest.checkpoint != nil }
                slow.cancel()
                switch await slow.result {
                case .success(let outcome): #expect(outcome == .succeeded(result: "[999999999999999989]"))
                case .failure(let error): #expect(error is CancellationError)
                }
                let fraction = try #require(reports.latest.fraction)
                #expect((0...1).contains(fraction))
                var later = Job(kind: "test", payload: "600851475143")
                // It tries no divisor below this one.
                later.checkpoint = "1000"
                #expect(try await run(later, in: plugin) == .succeeded(result: "[1471,6857,59569]"))
            }
        }
    }

    @Test("in C++ gets settings, and turns exceptions into outcomes")
    func statistics() async throws {
        try await withExample("library-cpp") { path in
            try await with(path, settings: #"{"digits":3}"#) { plugin in
                let outcome = try await result(of: "[1, 2, 7]", in: plugin)
                #expect(outcome == .succeeded(result: #"{"mean":3.33,"median":2}"#))
                for (payload, message) in [("{}", "not a list"), ("[]", "an empty list"), ("[\"a\"]", "not a number")] {
                    guard case .discarded(let failure) = try await result(of: payload, in: plugin) else {
                        Issue.record("\(payload) is not discarded")
                        continue
                    }
                    #expect(failure.name == "statistics.badPayload")
                    #expect(failure.message.contains(message))
                }
            }
            try await with(path, settings: #"{"digits":99}"#) { plugin in
                guard case .unable(let failure) = try await result(of: "[1]", in: plugin) else {
                    Issue.record("it is open")
                    return
                }
                #expect(failure.message.hasSuffix("cannot be opened: digits must be 1 to 17"))
            }
        }
    }

    @Test("of the page can be built as the page says, and runs")
    func page() async throws {
        try await withTemporaryDirectory { directory in
            let page = LibraryBuild.repository + "/Sources/Breakwater/Breakwater.docc/LibraryHandlers.md"
            try block("c", of: page).write(toFile: directory + "/greet.c", atomically: true, encoding: .utf8)
            try FileManager.default.copyItem(
                atPath: LibraryBuild.repository + "/Sources/CBreakwaterHandler/breakwater_handler.h",
                toPath: directory + "/breakwater_handler.h"
            )
            try await LibraryBuild.run(try block("sh", of: page), in: directory)
            try await with(directory + "/greet.so") { plugin in
                #expect(try await result(of: #""Ada""#, in: plugin) == .succeeded(result: #"{"greeted":1}"#))
                guard case .discarded(let failure) = try await result(of: "7", in: plugin) else {
                    Issue.record("7 is not discarded")
                    return
                }
                #expect(failure.name == "greet.noName")
            }
        }
    }
}
