import Foundation

/// Runs a test's body in another process, in which no other test runs.
///
/// Swift Testing's exit tests do the same, but they never end while this process has a child that has exited and that
/// nobody waits for, and some tests leave such children.
///
/// - Parameters:
///   - test: The test that calls this: its target, suite and function, such as `AppTests.FileTests/leavesNothing`.
///   - body: What the test does there.
/// - Throws: The body's error; ``AloneTestFailure`` in the process that waits for it.
public func runAlone(_ test: String, _ body: () async throws -> Void) async throws {
    let variable = "BREAKWATER_TEST_ALONE"
    var environment = ProcessInfo.processInfo.environment
    if environment[variable] == test {
        try await body()
        return
    }
    environment[variable] = test
    let file = FileManager.default.temporaryDirectory.appending(path: "breakwater-alone-\(UUID())")
    defer { try? FileManager.default.removeItem(at: file) }
    let child = try Child(
        FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"),
        ["--testing-library", "swift-testing", "--filter", test],
        environment: environment,
        output: .file(file.path),
        errors: .descriptor(1)
    )
    let status = await child.end()
    let output = (try? String(contentsOf: file, encoding: .utf8)) ?? ""
    guard status == 0, output.contains("1 test ") else {
        throw AloneTestFailure(description: "the test in a process of its own ended with \(status):\n\(output)")
    }
}

/// The failure of a test that ran in a process of its own.
public struct AloneTestFailure: Error, CustomStringConvertible {
    /// Its exit status and its output.
    public var description: String
}
