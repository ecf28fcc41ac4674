import Foundation
import Glibc

/// What this process has open, and the processes that it has started.
struct ProcessFigures {
    /// The descriptors, and what they refer to.
    private var descriptors: [Int32: String] = [:]
    private var children: Set<Int32> = []

    /// The figures of now.
    init() {
        for number in Self.numbers(in: "/proc/self/fd") {
            // The descriptor of the listing itself is gone by now.
            guard let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(number)")
            else { continue }
            descriptors[number] = target
        }
        for number in Self.numbers(in: "/proc") where Self.parent(of: number) == getpid() { children.insert(number) }
    }

    private static func numbers(in folder: String) -> [Int32] {
        ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).compactMap { Int32($0) }
    }

    private static func parent(of process: Int32) -> Int32? {
        guard let status = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8) else { return nil }
        // The name is in parentheses. The state and the parent follow it.
        return status.split(separator: ")").last?.split(separator: " ").dropFirst().first.flatMap { Int32($0) }
    }

    /// Whether there are more descriptors or processes than before.
    func exceeds(_ before: ProcessFigures) -> Bool {
        descriptors.count > before.descriptors.count || children.count > before.children.count
    }

    /// What there is more than before, as a line.
    func description(since before: ProcessFigures) -> String {
        var parts: [String] = []
        let files = descriptors.count - before.descriptors.count
        if files > 0 {
            let new = descriptors.filter { before.descriptors[$0.key] != $0.value }.map(\.value).sorted()
            let examples = new.prefix(3).joined(separator: ", ")
            parts.append("\(files) more descriptors\(new.isEmpty ? "" : ", such as \(examples)")")
        }
        let processes = children.count - before.children.count
        if processes > 0 { parts.append("\(processes) more child processes") }
        return "each start and stop leaves something behind: \(parts.joined(separator: "; "))"
    }
}
