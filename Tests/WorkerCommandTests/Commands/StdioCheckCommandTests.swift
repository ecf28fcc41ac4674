import Testing

@Suite("worker stdio-check", .enabled(if: WorkerBinary.isBuilt)) struct StdioCheckCommandTests {
    @Test("prints one line a check, and exits with 1 if one failed")
    func failing() async throws {
        let ending = try await WorkerBinary.run(["stdio-check", "--start-timeout", "5s", "--", "echo", "hello"])
        #expect(ending.status == 1)
        #expect(ending.output == "FAILED  hello: a line of its standard output is not a JSON object: hello\n")
        #expect(ending.errors.hasSuffix("1 of 1 checks failed\n"))
        let json = try await WorkerBinary.run(["stdio-check", "--json", "--", "sh", "-c", "echo a reason >&2; exit 3"])
        #expect(json.status == 1)
        #expect(json.output.contains("\"verdict\": \"failed\""))
        #expect(json.errors.contains("a reason\n"))
    }

    @Test("refuses wrong arguments")
    func refusals() async throws {
        for (arguments, words) in [
            ([], "Give the program to check after --"),
            (["--payload", "{", "--", "cat"], "--payload '{' is not a JSON value"),
            (["--jobs", "0", "--", "cat"], "Give 1 to 1000 --jobs"),
            (["--", "no-such-program"], "the program 'no-such-program' was not found in PATH"),
        ] {
            let ending = try await WorkerBinary.run(["stdio-check"] + arguments)
            #expect(ending.status == 64)
            #expect(ending.errors.contains(words), "\(ending.errors)")
        }
    }
}
