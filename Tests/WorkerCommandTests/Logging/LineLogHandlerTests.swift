import Breakwater
import Foundation
import Logging
import Synchronization
import Testing

@testable import WorkerCommand

/// Keeps the lines.
private final class Lines: LogOutput {
    private let lines = Mutex<[String]>([])
    var all: [String] { lines.withLock(\.self) }
    func write(_ line: String) { lines.withLock { $0.append(line) } }
}

/// The lines that `body` logs, at 2001-01-01T00:00:01.500Z.
private func logged(_ format: LogFormat, level: Logger.Level = .info, _ body: (inout Logger) -> Void) -> [String] {
    let lines = Lines()
    var handler = LineLogHandler(label: "test", logLevel: level, format: format, output: lines)
    handler.now = { Date(timeIntervalSinceReferenceDate: 1.5) }
    var logger = Logger(label: "test") { [handler] _ in handler }
    body(&logger)
    return lines.all
}

@Suite("A log line")
struct LineLogHandlerTests {
    @Test("is one JSON object with stable keys first and the fields in order")
    func json() throws {
        let lines = logged(.json) { logger in
            logger[metadataKey: "job"] = .stringConvertible(42)
            logger.info("done", metadata: ["kind": "email.send", "ok": .stringConvertible(true), "at": ["a", "b"]])
        }
        #expect(
            lines == [
                #"{"ts":"2001-01-01T00:00:01.500Z","level":"info","msg":"done","label":"test","#
                    + #""at":["a","b"],"job":42,"kind":"email.send","ok":true}"# + "\n"
            ]
        )
    }

    @Test("is a time, a level, a message and fields for people")
    func text() {
        let lines = logged(.text) { logger in
            logger.warning("slow", metadata: ["took": "3 s", "kind": "email.send", "none": "", "map": ["a": "b"]])
        }
        #expect(
            lines == [
                #"2001-01-01T00:00:01.500Z WARNING  slow kind=email.send map={"a":"b"} none="" took="3 s""# + "\n"
            ]
        )
    }

    @Test("stays one line, whatever is in it", arguments: [LogFormat.json, .text])
    func controlCharacters(format: LogFormat) throws {
        let nasty = "a\nb\r\t\u{1B}[31m\u{7F}\u{85}\u{2028}\u{202E}\0\"\\"
        let lines = logged(format) { $0.error("\(nasty)", metadata: ["\(nasty)": "\(nasty)"]) }
        let line = try #require(lines.first)
        #expect(lines.count == 1)
        #expect(line.dropLast().unicodeScalars.allSatisfy { !$0.isControl })
        if format == .json {
            let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
            #expect(object?["msg"] as? String == nasty)
            #expect(object?[nasty] as? String == nasty)
        }
    }

    @Test("does not let a field stand in for one of its own keys")
    func reserved() throws {
        let lines = logged(.json) { $0.info("real", metadata: ["msg": "forged", "level": "trace"]) }
        let object = try JSONSerialization.jsonObject(with: Data(try #require(lines.first).utf8)) as? [String: Any]
        #expect(object?["msg"] as? String == "real")
        #expect(object?["level"] as? String == "info")
        #expect(object?["field_msg"] as? String == "forged")
    }

    @Test("never holds a payload", arguments: [LogFormat.json, .text])
    func payloads(format: LogFormat) {
        let lines = logged(format) { $0.info("job", metadata: ["payload": "private", "result": "private"]) }
        #expect(lines.count == 1)
        #expect(!lines.joined().contains("private"))
    }

    @Test("carries the error that was logged with it")
    func errors() {
        struct Broken: Error {}
        let lines = logged(.text) { $0.error("it broke", error: Broken()) }
        #expect(lines.first?.contains("it broke error=Broken()") == true, "\(lines)")
    }

    @Test("is written from its level on")
    func levels() {
        let lines = logged(.text, level: .warning) { logger in
            logger.info("no")
            logger.warning("yes")
        }
        #expect(lines.count == 1)
    }
}
