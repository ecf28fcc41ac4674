import Foundation

/// Writes the migrations of a folder into one Swift source file: `embed-schema SQL-FOLDER OUTPUT`.
///
/// A migration is a folder `NNNN_name` of topic files, applied in the order of their names.
///
/// Not code at the top level, which no module may have when everything is built for libFuzzer.
@main
enum EmbedSchema {
    static func main() throws {
        let arguments = CommandLine.arguments
        guard arguments.count == 3 else {
            FileHandle.standardError.write(Data("usage: embed-schema SQL-FOLDER OUTPUT\n".utf8))
            exit(64)
        }
        let source = try source(of: URL(fileURLWithPath: arguments[1]))
        try source.write(to: URL(fileURLWithPath: arguments[2]), atomically: true, encoding: .utf8)
    }

    private static func source(of root: URL) throws -> String {
        var source = """
            // Made from the files of `sql/` at build time.
            extension Migration {
                static let all: [Migration] = [

            """
        for folder in try sortedContents(of: root) {
            guard let version = Int(folder.lastPathComponent.prefix { $0.isNumber }) else { continue }
            source += "        Migration(version: \(version), name: \"\(folder.lastPathComponent)\", files: [\n"
            for file in try sortedContents(of: folder) where file.pathExtension == "sql" {
                let text = try String(contentsOf: file, encoding: .utf8)
                source += "            File(name: \"\(file.lastPathComponent)\", sql: ###\"\"\"\n\(text)\n\"\"\"###),\n"
            }
            source += "        ]),\n"
        }
        return source + "    ]\n}\n"
    }

    private static func sortedContents(of folder: URL) throws -> [URL] {
        try FileManager.default
            .contentsOfDirectory(at: folder, includingPropertiesForKeys: nil, options: .skipsHiddenFiles)
            .sorted { $0.lastPathComponent < $1.lastPathComponent }
    }
}
