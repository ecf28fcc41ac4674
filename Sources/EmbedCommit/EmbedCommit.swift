import Foundation
import PackagePlugin

/// Embeds the commit in the executable, for `worker --version`.
///
/// The commit is read from the files of `.git`, because a build may run where the program git is missing. For a build of
/// files without `.git`, as in a container image, BREAKWATER_COMMIT names it. Without either, no commit is embedded.
@main
struct EmbedCommit: BuildToolPlugin {
    func createBuildCommands(context: PluginContext, target: any Target) throws -> [Command] {
        let commit = try given() ?? Repository(top: context.package.directoryURL)?.commit()
        let source = "let embeddedCommit: String? = \(commit.map { "\"\($0.prefix(12))\"" } ?? "nil")"
        let output = context.pluginWorkDirectoryURL.appending(path: "Commit.swift")
        // The command changes with the commit, so it runs again after each commit.
        return [
            .buildCommand(
                displayName: "Embedding the commit",
                executable: URL(filePath: "/bin/sh"),
                arguments: ["-c", #"printf '%s\n' "$1" >"$2""#, "sh", source, output.path()],
                outputFiles: [output]
            )
        ]
    }

    /// BREAKWATER_COMMIT, if it is set.
    private func given() throws -> String? {
        guard let commit = ProcessInfo.processInfo.environment["BREAKWATER_COMMIT"], !commit.isEmpty else { return nil }
        guard Repository.isCommit(commit) else {
            throw EmbedCommitError(
                description: "BREAKWATER_COMMIT=\(commit) is not a commit; give 7 to 64 hexadecimal digits."
            )
        }
        return commit
    }
}

struct EmbedCommitError: Error, CustomStringConvertible {
    var description: String
}
