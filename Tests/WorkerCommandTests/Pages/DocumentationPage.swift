import Foundation

/// A page of the documentation, or another Markdown file of the repository.
struct DocumentationPage {
    /// A heading with what stands below it, up to the next heading of the same level.
    struct Section {
        var heading: String
        var text: String
    }

    /// The repository.
    static let repository = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../..")
        .standardizedFileURL

    /// The documentation catalogue.
    static let catalogue = repository.appending(path: "Sources/Breakwater/Breakwater.docc")

    /// All pages of the catalogue, and the files at the top of the repository.
    static func all() throws -> [DocumentationPage] {
        let notes = catalogue.appending(path: "Notes")
        return try [repository, catalogue, notes].flatMap { folder in
            try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
                .filter { $0.pathExtension == "md" }
                .map(DocumentationPage.init)
        }
    }

    var name: String
    var text: String

    /// Reads a page of the catalogue by its name.
    init(_ name: String) throws {
        try self.init(Self.catalogue.appending(path: "\(name).md"))
    }

    private init(_ file: URL) throws {
        name = file.deletingPathExtension().lastPathComponent
        text = try String(contentsOf: file, encoding: .utf8)
    }

    /// The sections whose headings have a level: 2 for `##`.
    func sections(level: Int) -> [Section] {
        let mark = String(repeating: "#", count: level) + " "
        return "\n\(text)".components(separatedBy: "\n\(mark)").dropFirst().map { part in
            let lines = part.split(separator: "\n", omittingEmptySubsequences: false)
            let body = lines.dropFirst().prefix { line in
                let own = line.prefix { $0 == "#" }.count
                return own == 0 || own > level
            }
            return Section(heading: String(lines[0]), text: body.joined(separator: "\n"))
        }
    }
}

extension String {
    /// The blocks of code of these languages, `""` for those without one.
    func codeBlocks(_ languages: String...) -> [String] {
        matches(of: /(?:^|\n)```([a-z]*)\n(.*?)\n```/.dotMatchesNewlines())
            .filter { languages.contains(String($0.1)) }
            .map { String($0.2) }
    }

    /// The words in backquotes.
    var quotedWords: [String] { matches(of: /`([^`]+)`/).map { String($0.1) } }

    /// The cells of the rows of all tables, without the headings.
    var tableRows: [[String]] {
        split(separator: "\n").filter { $0.hasPrefix("| ") }.map { row in
            row.replacing("\\|", with: "\u{0}").split(separator: "|", omittingEmptySubsequences: false)
                .dropFirst().dropLast()
                .map { $0.trimmingCharacters(in: .whitespaces).replacing("\u{0}", with: "|") }
        }
    }
}
