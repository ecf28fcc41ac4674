import Foundation
import PackagePlugin

/// Puts the files of `sql/` inside the library, so that `worker migrate` works from anywhere.
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
