import ArgumentParser
import Breakwater
import Foundation
import Testing

@testable import WorkerCommand

/// What `scripts/package` packs. `scripts/package-test` installs the whole package.
@Suite("The package")
struct PackageTests {
    private static let repository = DocumentationPage.repository

    private func text(_ path: String) throws -> String {
        try String(contentsOf: Self.repository.appending(path: path), encoding: .utf8)
    }

    @Test("the changelog, the image and the program have the same version")
    func version() throws {
        let newest = try #require(try text("CHANGELOG.md").firstMatch(of: /(?m)^## \[([^\]]+)\]/))
        #expect(newest.1 == WorkerCommand.version)
        #expect(try text("deploy/kubernetes/kustomization.yaml").contains(#"newTag: "\#(WorkerCommand.version)""#))
        // The script finds the version by this line.
        #expect(
            try text("Sources/Breakwater/Schema/Version.swift")
                .contains("\npackage let breakwaterVersion = \"\(WorkerCommand.version)\"\n")
        )
        #expect(try text("deploy/debian/control").contains("\nVersion: @VERSION@\n"))
    }

    @Test("--version prints the commit if the executable knows it")
    func commit() {
        #expect(WorkerCommand.versionText == WorkerCommand.version)
        WorkerCommand.$commit.withValue("a48f0412c3de") {
            #expect(RootCommand.configuration.version == "\(WorkerCommand.version) (commit a48f0412c3de)")
        }
    }

    @Test("its configuration is valid, and leaves the unit time to stop")
    func configuration() throws {
        let file = try ConfigurationFile(path: Self.repository.appending(path: "deploy/debian/worker.yaml").path())
        let loaded = try ConfigurationLoader(flags: [:], environment: [:], registered: []).load(file)
        #expect(loaded.warnings.isEmpty)
        let unit = try text("deploy/systemd/breakwater-worker@.service")
        let limit = try #require(unit.firstMatch(of: /(?m)^TimeoutStopSec=(.+)$/))
        #expect(try Duration(text: String(limit.1)) > loaded.worker.shutdownGrace)
        // The script puts the path of the package here.
        #expect(unit.contains("\nExecStart=/usr/local/bin/worker run --config /etc/breakwater/%i.yaml\n"))
        // The user that the package creates is the unit's.
        #expect(unit.contains("\nUser=breakwater\n"))
        #expect(try text("deploy/debian/postinst").contains("'Breakwater worker' breakwater\n"))
    }

    @Test(
        "the manual has a page for each command, with every option",
        .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
    )
    func manual() async throws {
        guard try await program("python3", ["--version"]).status == 0 else {
            try Test.cancel("python3 is not installed: scripts/test installs it")
        }
        let help = try await WorkerBinary.run(["--experimental-dump-help"]).output
        try await withFolder { folder in
            let script = Self.repository.appending(path: "scripts/package.d/manual.py").path()
            let ending = try await program("python3", ["-B", script, "1.2.3", "2026-01-02", folder], input: help)
            #expect(ending.status == 0, "\(ending.errors)")
            let main = try String(contentsOfFile: "\(folder)/worker.1", encoding: .utf8)
            #expect(main.hasPrefix(#".TH "WORKER" "1" "2026-01-02" "breakwater 1.2.3""#))
            #expect(main.contains(".SH \"EXIT STATUS\"\n"))
            for command in RootCommand.configuration.subcommands {
                let name = command._commandName.replacing("-", with: #"\-"#)
                #expect(main.contains("\n\\fB\(name)\\fR\n"), "\(name)")
                let page = try String(contentsOfFile: "\(folder)/worker-\(command._commandName).1", encoding: .utf8)
                #expect(page.contains("\n.SH NAME\nworker\\-\(name) \\- "))
                for subcommand in command.configuration.subcommands {
                    let inner = subcommand._commandName.replacing("-", with: #"\-"#)
                    #expect(page.contains(".SS \"worker \(name) \(inner)"), "\(name) \(inner)")
                }
            }
            let run = try String(contentsOfFile: "\(folder)/worker-run.1", encoding: .utf8)
            let options = try await WorkerBinary.run(["run", "--help"]).output.matches(
                of: /(?m)^  (?:-[a-z], )?(--[a-z-]+)/
            )
            #expect(options.count > 10)
            for option in options.map(\.1) where !["--version", "--help"].contains(option) {
                #expect(run.contains("\\fB\(option.replacing("-", with: #"\-"#))\\fR"), "\(option)")
            }
        }
    }

    @Test(
        "each shell reads its completions",
        .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)"),
        arguments: [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")]
    )
    func completions(shell: String, option: String) async throws {
        let script = try await WorkerBinary.run(["--generate-completion-script", shell])
        #expect(script.status == 0)
        #expect(script.output.contains("dead-letters"))
        guard try await program(shell, ["--version"]).status == 0 else { return }
        try await withFile(script.output) { file in
            let ending = try await program(shell, [option, file])
            #expect(ending.status == 0, "\(ending.errors)")
        }
    }

    /// Makes a folder that exists during the body.
    private func withFolder(_ body: (String) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "package-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try await body(folder.path())
    }

    /// Runs a program that `PATH` names.
    private func program(_ name: String, _ arguments: [String], input: String? = nil) async throws
        -> WorkerBinary.Ending
    {
        try await WorkerBinary.Run([name] + arguments, program: URL(filePath: "/usr/bin/env"), input: input).end()
    }
}
