import Foundation
import Yams

/// The configuration file, parsed as YAML but not yet interpreted.
struct ConfigurationFile {
    /// The file's name as it was given.
    var name: String
    /// The root node; nil for an empty file.
    var root: Node?

    /// The largest file that is read. A configuration is far smaller, but a mistaken path may name a far larger file.
    private static let maxBytes = 4 << 20

    /// Reads a file.
    ///
    /// - Throws: ``ConfigurationError`` when it cannot be read or is not YAML.
    init(path: String) throws {
        let text: String
        do {
            let file = try FileHandle(forReadingFrom: URL(filePath: path))
            defer { try? file.close() }
            let data = try file.read(upToCount: Self.maxBytes + 1) ?? Data()
            guard data.count <= Self.maxBytes else {
                throw ValueRefusal("it is larger than 4 MiB; is it the right file?")
            }
            guard let decoded = String(data: data, encoding: .utf8) else { throw ValueRefusal("it is not UTF-8") }
            text = decoded
        } catch {
            let reason = (error as? ValueRefusal)?.message ?? Self.reason(error)
            throw ConfigurationError(problems: [
                ConfigurationProblem(origin: .flag(name: "--config"), key: "", message: "'\(path)': \(reason)")
            ])
        }
        try self.init(name: path, text: text)
    }

    /// Parses a text.
    ///
    /// - Throws: ``ConfigurationError`` with the line when it is not YAML.
    init(name: String, text: String) throws {
        self.name = name
        guard Self.values(in: text) <= Self.maxValues else {
            throw ConfigurationError(problems: [
                ConfigurationProblem(
                    origin: .file(name: name, line: 1),
                    key: "",
                    message: "it has more than \(Self.maxValues) values, counting what its aliases stand for"
                )
            ])
        }
        do {
            root = try Yams.compose(yaml: text)
        } catch let error as YamlError {
            throw ConfigurationError(problems: [Self.problem(error, file: name)])
        }
    }

    private static func problem(_ error: YamlError, file: String) -> ConfigurationProblem {
        let (line, message): (Int, String) =
            switch error {
            case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
                .composer(let context, let problem, let mark, _):
                (mark.line, "this is not YAML: \(context.map { "\($0.text), " } ?? "")\(problem)")
            case .duplicatedKeysInMapping(let duplicates, let context):
                (context.mark.line, "\(duplicates.map { "'\($0)'" }.joined(separator: ", ")) is given twice; keep one")
            default:
                (1, "this is not YAML: \(error)")
            }
        return ConfigurationProblem(origin: .file(name: file, line: line), key: "", message: message)
    }

    private static func reason(_ error: any Error) -> String {
        switch (error as? CocoaError)?.code {
        case .fileReadNoSuchFile, .fileNoSuchFile: "there is no such file"
        case .fileReadNoPermission: "this user may not read it"
        default: "it cannot be read: \(error.localizedDescription)"
        }
    }
}
