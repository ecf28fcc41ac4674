import Breakwater
import Foundation
import Libpq

@testable import WorkerCommand

extension FuzzTarget {
    /// Durations such as `1h30m`, in the configuration and on the command line.
    static let duration = texts("duration", ["1h30m", "500ms", "9223372036854775807ms", "1d1d", "-1s", "1e9s"]) {
        text in
        guard let duration = try? Duration(text: text) else { return }
        try require(duration >= .zero, "\(text) is negative")
        try require(try Duration(text: duration.text) == duration, "\(text) does not read back: \(duration.text)")
    }

    /// The time of `--run-at`.
    static let time = texts("time", ["2030-01-31T08:00:00Z", "2030-01-31T08:00:00.5+99:99", "-0001-13-32T25:61:61Z"]) {
        text in
        guard let time = TimeArgument(argument: text) else { return }
        _ = Statement("select $1", [.timestamptz(time.date)])
        _ = time.date.timeText
    }

    /// The path of a circuit's key in the payload.
    static let jsonPath = texts("json-path", ["$.a.b[0]", #"$["a\"b"]['c']"#, "$..*", "$[-1]", "$.é"]) { text in
        guard text.hasPrefix("$"), let path = try? JSONPath(text: text) else { return }
        try require(try JSONPath(text: path.text) == path, "\(text) does not read back: \(path.text)")
    }

    /// The configuration file.
    static let yaml = texts(
        "yaml",
        [
            "handlers: { a: { exec: { command: [cat] }, timeout: 10s, circuit: { key: $.a } } }",
            "handlers:\n  a:\n    http: { url: 'http://a/b?c=d', headers: { A: b } }\n    retry: { base: 1s, factor: 2 }",
            "a: &a [1]\nb: [*a, *a]\n? [x]\n: !!int y", "concurrency: 1e9\nqueues: [a, a]\nlease: ${X:-1}\nlease: 2",
            "handlers: { a: { exec: {command: [cat]}, circuit: { fallback: { succeed: { a: [1, 1e5, ~] } } } } }",
        ]
    ) { text in
        do {
            _ = try ConfigurationLoader(environment: ["X": "1"]).load(ConfigurationFile(name: "f.yaml", text: text))
        } catch let error as ConfigurationError {
            try require(!error.problems.isEmpty, "it was refused without a reason")
            for line in "\(error)".split(separator: "\n", omittingEmptySubsequences: false) {
                try require(line.utf8.count < 4096, "a problem takes \(line.utf8.count) bytes")
            }
        }
    }

    /// Connection strings. They are read, shown, and shown with their passwords masked.
    static let conninfo = texts(
        "conninfo",
        [
            "postgresql://u:hidden@h:5432,h2/d?sslmode=require&password=hidden", "host=h password='hid den' user=u",
            "postgres://u:p@@h/%zz", "host=h password=a\\ b port=x",
        ]
    ) { text in
        let options = ConnectionOptions(text)
        try? options.check()
        _ = "\(options)"
        _ = Secrets.maskingPasswords(inConninfo: text)
        _ = Secrets.maskingPasswords(inURL: text)
    }

    /// The printed output: tables, log lines and JSON.
    static let terminal = texts("terminal", ["a\u{1B}[2Jb", "\u{202E}x\u{61C}", "é👩‍👩‍👧", "\"\\\n"]) { text in
        func check(_ shown: String) throws {
            try require(!shown.unicodeScalars.contains(where: \.isControl), "a control character is left in \(shown)")
        }
        try check(text.escapingControlCharacters)
        for line in Table(columns: [.long("A"), .number("B")], rows: [[text, text]]).lines(width: 40) {
            try check(line)
        }
        try check(text.jsonText)
        let read = try JSONSerialization.jsonObject(with: Data(text.jsonText.utf8), options: .fragmentsAllowed)
        try require(read as? String == text, "the text reads back differently")
    }
}
