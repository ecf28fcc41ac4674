import Foundation
import Testing

/// `Repository.swift` belongs to the plugin EmbedCommit, which tests cannot import. A link makes it part of the tests.
@Suite("The commit of a build")
struct RepositoryTests {
    /// A Git repository with one commit, in a folder of its own.
    private struct Clone {
        var folder: URL

        func git(_ arguments: String...) async throws -> String {
            let settings = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"]
            let ending = try await WorkerBinary.Run(
                ["git", "-C", folder.path()] + settings + arguments,
                program: URL(filePath: "/usr/bin/env"),
                environment: ["GIT_CONFIG_GLOBAL": "/dev/null"]
            ).end()
            try #require(ending.status == 0, "\(ending.errors)")
            return ending.output.trimmingCharacters(in: .newlines)
        }
    }

    private func withClone(_ body: (Clone) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "commit-test-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        let clone = Clone(folder: folder.appending(path: "clone"))
        try FileManager.default.createDirectory(at: clone.folder, withIntermediateDirectories: true)
        _ = try await clone.git("init", "--quiet", "--initial-branch=feature/x")
        #expect(Repository(top: clone.folder)?.commit() == nil)
        _ = try await clone.git("commit", "--quiet", "--allow-empty", "--message=one")
        try await body(clone)
    }

    @Test("is found on a branch, with packed branches, and without a branch")
    func branches() async throws {
        try await withClone { clone in
            let commit = try await clone.git("rev-parse", "HEAD")
            #expect(Repository(top: clone.folder)?.commit() == commit)
            _ = try await clone.git("pack-refs", "--all")
            #expect(Repository(top: clone.folder)?.commit() == commit)
            _ = try await clone.git("checkout", "--quiet", "--detach")
            #expect(Repository(top: clone.folder)?.commit() == commit)
            _ = try await clone.git("commit", "--quiet", "--allow-empty", "--message=two")
            #expect(try await Repository(top: clone.folder)?.commit() == clone.git("rev-parse", "HEAD"))
        }
    }

    @Test("is found in a linked worktree, and in a submodule")
    func links() async throws {
        try await withClone { clone in
            _ = try await clone.git("worktree", "add", "--quiet", "../tree", "-b", "other")
            let tree = Clone(folder: clone.folder.appending(path: "../tree").standardizedFileURL)
            _ = try await tree.git("commit", "--quiet", "--allow-empty", "--message=two")
            let commit = try await tree.git("rev-parse", "HEAD")
            #expect(Repository(top: tree.folder)?.commit() == commit)
            _ = try await tree.git("pack-refs", "--all")
            #expect(Repository(top: tree.folder)?.commit() == commit)

            _ = try await clone.git("submodule", "--quiet", "add", clone.folder.path(), "part")
            let part = Clone(folder: clone.folder.appending(path: "part"))
            #expect(try await Repository(top: part.folder)?.commit() == part.git("rev-parse", "HEAD"))
        }
    }

    @Test("is not there outside of a repository")
    func none() {
        #expect(Repository(top: URL(filePath: "/nonexistent")) == nil)
        #expect(!Repository.isCommit("main"))
        #expect(!Repository.isCommit("a48f04"))
        #expect(Repository.isCommit("a48f041"))
    }
}
