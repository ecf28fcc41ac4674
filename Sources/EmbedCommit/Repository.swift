import Foundation

/// The files of a Git repository, as far as they say which commit is checked out.
struct Repository {
    /// The folder with HEAD.
    private var folder: URL
    /// The folder with the branches. It is another one in a linked worktree.
    private var common: URL

    /// Opens the repository at the top of a work tree.
    ///
    /// - Returns: nil if the folder is not the top of a work tree.
    init?(top: URL) {
        let link = top.appending(path: ".git")
        folder = link
        // In a linked worktree and in a submodule, `.git` is a file that names the folder.
        if let text = Self.line(link), let path = text.split(separator: "gitdir: ", maxSplits: 1).last {
            folder = Self.resolve(String(path), in: top)
        }
        guard Self.line(folder.appending(path: "HEAD")) != nil else { return nil }
        common = folder
        if let path = Self.line(folder.appending(path: "commondir")) {
            common = Self.resolve(path, in: folder)
        }
    }

    /// The commit that is checked out. It is nil before the first commit, and if the references are not files.
    func commit() -> String? {
        guard let head = Self.line(folder.appending(path: "HEAD")) else { return nil }
        guard head.hasPrefix("ref: ") else { return Self.isCommit(head) ? head : nil }
        let name = String(head.dropFirst("ref: ".count))
        let commit = Self.line(common.appending(path: name)) ?? packed(name)
        return commit.flatMap { Self.isCommit($0) ? $0 : nil }
    }

    /// The commit of a branch in `packed-refs`, where each line has a commit and a name.
    private func packed(_ name: String) -> String? {
        let text = try? String(contentsOf: common.appending(path: "packed-refs"), encoding: .utf8)
        let lines = text?.split(separator: "\n").map { $0.split(separator: " ") } ?? []
        return lines.first { $0.count == 2 && $0[1] == name }.map { String($0[0]) }
    }

    static func isCommit(_ text: String) -> Bool {
        (7...64).contains(text.utf8.count)
            && text.utf8.allSatisfy {
                UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 || UInt8(ascii: "a")...UInt8(ascii: "f") ~= $0
            }
    }

    private static func resolve(_ path: String, in folder: URL) -> URL {
        path.hasPrefix("/") ? URL(filePath: path) : folder.appending(path: path)
    }

    /// The first line of a file, or nil if it cannot be read.
    private static func line(_ file: URL) -> String? {
        (try? String(contentsOf: file, encoding: .utf8))?.split(separator: "\n").first.map(String.init)
    }
}
