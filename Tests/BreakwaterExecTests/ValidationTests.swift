import BreakwaterExec
import Foundation
import Testing

@Suite struct ValidationTests {
    @Test func anEmptyCommandIsRefused() {
        #expect(code { try ExecPlugin(command: []) } == .invalidCommand)
        #expect(code { try ExecPlugin(command: [""]) } == .invalidCommand)
        #expect(code { try ExecPlugin(command: ["echo", "a\0b"]) } == .invalidCommand)
    }

    @Test func aMissingProgramIsRefusedWithWhereItWasLookedFor() {
        let error = #expect(throws: ExecPluginError.self) {
            try ExecPlugin(command: ["no-such-program"], environment: ["PATH": "/usr/bin:/bin"])
        }
        #expect(error?.code == .executableNotFound)
        #expect(error?.message == "the program 'no-such-program' was not found in PATH, which is /usr/bin:/bin")
    }

    @Test func aProgramIsNotLookedForInTheWorkersPathWhenTheCommandHasNone() {
        #expect(code { try ExecPlugin(command: ["true"], inherit: []) } == .executableNotFound)
        #expect(code { try ExecPlugin(command: ["/bin/true"], inherit: []) } == nil)
    }

    @Test func aFileThatIsNotExecutableIsRefused() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/tool"
            try "#!/bin/sh\n".write(toFile: file, atomically: true, encoding: .utf8)
            // Even root may execute a file only if some user may.
            let named = #expect(throws: ExecPluginError.self) { try ExecPlugin(command: [file]) }
            #expect(named?.message == "the program '\(file)' cannot run: \(file) is not executable")
            let searched = #expect(throws: ExecPluginError.self) {
                try ExecPlugin(command: ["tool"], environment: ["PATH": directory])
            }
            #expect(searched?.message.contains("\(file) is not executable") == true)
            #expect(code { try ExecPlugin(command: [directory]) } == .executableNotFound)
        }
    }

    @Test func aRelativePathStartsFromTheWorkingDirectory() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/tool"
            try "#!/bin/sh\n".write(toFile: file, atomically: true, encoding: .utf8)
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: file)
            #expect(code { try ExecPlugin(command: ["./tool"], workingDirectory: directory) } == nil)
            #expect(code { try ExecPlugin(command: ["./tool"], workingDirectory: "/usr") } == .executableNotFound)
        }
    }

    @Test func otherValuesAreChecked() {
        #expect(code { try ExecPlugin(command: ["true"], workingDirectory: "/nowhere") } == .invalidWorkingDirectory)
        #expect(code { try ExecPlugin(command: ["true"], environment: ["A=B": ""]) } == .invalidEnvironment)
        #expect(code { try ExecPlugin(command: ["true"], environment: ["A": "\0"]) } == .invalidEnvironment)
        #expect(code { try ExecPlugin(command: ["true"], inherit: [""]) } == .invalidEnvironment)
        #expect(code { try ExecPlugin(command: ["true"], maxOutputBytes: 0) } == .invalidLimit)
        #expect(code { try ExecPlugin(command: ["true"], killAfter: .seconds(-1)) } == .invalidLimit)
    }

    private func code(_ make: () throws -> ExecPlugin) -> ExecPluginError.Code? {
        do {
            _ = try make()
            return nil
        } catch {
            return (error as? ExecPluginError)?.code
        }
    }
}
