import Foundation
import PackagePlugin

/// Embeds the files of `sql/` in the library, so that `worker migrate` works from any directory.
@main
struct EmbedSchema: BuildToolPlugin {
    func createBuildCommands(context: PluginContext, target: any Target) throws -> [Command] {
        let folder = context.package.directoryURL.appending(path: "sql")
        let files = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)?
            .compactMap { $0 as? URL }
            .filter { $0.pathExtension == "sql" }
        let output = context.pluginWorkDirectoryURL.appending(path: "Migration+all.swift")
        return [
            .buildCommand(
                displayName: "Embedding the schema",
                executable: try context.tool(named: "embed-schema").url,
                arguments: [folder.path(), output.path()],
                inputFiles: files ?? [],
                outputFiles: [output]
            )
        ]
    }
}
