import Breakwater
import Foundation
import Logging

/// Writes each event as one line. Control characters are escaped, so that a job's data can neither forge a line nor
/// control a terminal.
struct LineLogHandler: LogHandler {
    let label: String
    private let level: LogLevels.Level
    /// The level that was set on this logger alone.
    private var ownLevel: Logger.Level?
    /// Text or JSON, never auto.
    let format: LogFormat
    let output: any LogOutput
    /// The clock for the time of an event. Tests replace it.
    var now: @Sendable () -> Date = { Date() }

    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?

    init(label: String, level: LogLevels.Level, format: LogFormat, output: any LogOutput) {
        self.label = label
        self.level = level
        self.format = format
        self.output = output
    }

    init(label: String, logLevel: Logger.Level, format: LogFormat, output: any LogOutput) {
        self.init(label: label, level: LogLevels.Level(logLevel), format: format, output: output)
    }

    var logLevel: Logger.Level {
        get { ownLevel ?? level.current }
        set { ownLevel = newValue }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var merged = metadata
        if let provided = metadataProvider?.get() {
            merged.merge(provided) { _, new in new }
        }
        if let given = event.metadata {
            merged.merge(given) { _, new in new }
        }
        if let error = event.error, merged["error"] == nil {
            merged["error"] = "\(error)"
        }
        // Payloads may hold personal data. A handler might log them by mistake.
        for key in ["payload", "result"] where merged[key] != nil {
            merged[key] = "(withheld)"
        }
        let fields = merged.sorted { $0.key < $1.key }
        let time = now().formatted(LogTime.style)
        switch format {
        case .json:
            output.write(jsonLine(event, time: time, fields: fields))
        case .text, .auto:
            output.write(textLine(event, time: time, fields: fields))
        }
    }

    private typealias Fields = [(key: String, value: Logger.MetadataValue)]

    private func jsonLine(_ event: LogEvent, time: String, fields: Fields) -> String {
        var line = "{\"ts\":\"\(time)\",\"level\":\"\(event.level.rawValue)\""
        line += ",\"msg\":\(event.message.description.jsonText),\"label\":\(label.jsonText)"
        for (key, value) in fields {
            // A metadata field must not replace one of the line's own fields.
            let name = ["ts", "level", "msg", "label"].contains(key) ? "field_\(key)" : key
            line += ",\(name.jsonText):\(value.jsonText)"
        }
        return line + "}\n"
    }

    private func textLine(_ event: LogEvent, time: String, fields: Fields) -> String {
        let level = event.level.rawValue.uppercased()
        var line = time + " " + level + String(repeating: " ", count: max(1, 9 - level.count))
        line += event.message.description.escapingControlCharacters
        for (key, value) in fields {
            line += " \(key.escapingControlCharacters)=\(value.fieldText)"
        }
        return line + "\n"
    }
}

/// The format of a log line's time: RFC 3339 in UTC with milliseconds.
private enum LogTime {
    static let style = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
}

extension Logger.MetadataValue {
    /// The value as JSON. It becomes a string, a list or an object.
    fileprivate var jsonText: String {
        switch self {
        case .string(let text): text.jsonText
        case .stringConvertible(let value as Bool): "\(value)"
        case .stringConvertible(let value as any FixedWidthInteger): "\(value)"
        case .stringConvertible(let value as Double) where value.isFinite: "\(value)"
        case .stringConvertible(let value): value.description.jsonText
        case .array(let values): "[\(values.map(\.jsonText).joined(separator: ","))]"
        case .dictionary(let values):
            "{"
                + values.sorted { $0.key < $1.key }
                .map { "\($0.key.jsonText):\($0.value.jsonText)" }
                .joined(separator: ",") + "}"
        }
    }

    /// The value after `key=`. It is quoted unless it is one plain word.
    fileprivate var fieldText: String {
        let text =
            switch self {
            case .string(let text): text
            case .stringConvertible(let value): value.description
            case .array, .dictionary: jsonText
            }
        if case .array = self { return text }
        if case .dictionary = self { return text }
        let separators = " \"=\\".unicodeScalars
        let needsQuotes = text.isEmpty || text.unicodeScalars.contains { $0.isControl || separators.contains($0) }
        return needsQuotes ? text.jsonText : text
    }
}

extension String {
    /// The text on one line, with control characters as `\n` or `\u001b`.
    var escapingControlCharacters: String {
        guard unicodeScalars.contains(where: \.isControl) else { return self }
        var text = ""
        for scalar in unicodeScalars {
            switch scalar {
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case _ where scalar.isControl: text += "\\u" + scalar.value.fourHexDigits
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text
    }
}
