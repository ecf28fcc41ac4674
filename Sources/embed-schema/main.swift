// Writes the migrations of a folder into one Swift source file: `embed-schema SQL-FOLDER OUTPUT`.
//
// A migration is a folder `NNNN_name` of files by topic, which are applied in the order of their names.
import Foundation

let arguments = CommandLine.arguments
guard arguments.count == 3 else {
    FileHandle.standardError.write(Data("usage: embed-schema SQL-FOLDER OUTPUT\n".utf8))
    exit(64)
}
let root = URL(fileURLWithPath: arguments[1])
let files = FileManager.default

func sortedContents(of folder: URL) throws -> [URL] {
    try files.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil, options: .skipsHiddenFiles)
        .sorted { $0.lastPathComponent < $1.lastPathComponent }
}

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
source += "    ]\n}\n"
try source.write(to: URL(fileURLWithPath: arguments[2]), atomically: true, encoding: .utf8)
