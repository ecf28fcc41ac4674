import Foundation
import Testing

@testable import WorkerCommand

@Suite("A table")
struct TableTests {
    private let table = Table(
        columns: [.number("ID"), .long("KIND"), .text("STATE"), .long("ERROR")],
        rows: [["7", "email.send", "ok", ""], ["4711", "webhook.deliver.to.many", "bad", "it said: no\nand more"]]
    )

    @Test("is aligned in columns, numbers to the right, and is not cut without a terminal")
    func whole() {
        #expect(
            table.lines(width: nil) == [
                "  ID  KIND                     STATE  ERROR",
                "   7  email.send               ok     -",
                "4711  webhook.deliver.to.many  bad    it said: no\\nand more",
            ]
        )
    }

    @Test("is cut to the terminal's width, the widest column first", arguments: 36...60)
    func cut(width: Int) {
        let lines = table.lines(width: width)
        #expect(lines.allSatisfy { $0.displayWidth <= width }, "\(lines.joined(separator: "\n"))")
        #expect(lines.count == 3)
    }

    @Test("marks what is cut, and never cuts ids and states")
    func marks() {
        #expect(table.lines(width: 36)[2] == "4711  webhook.d…  bad    it said: n…")
        #expect(table.lines(width: 5)[2].contains("4711"))
    }

    @Test("knows that some characters are two columns wide")
    func wide() {
        #expect("日本".displayWidth == 4)
        #expect("日本語".truncated(toWidth: 4) == "日…")
        #expect("abc".truncated(toWidth: 3) == "abc")
        #expect("abcd".truncated(toWidth: 3) == "ab…")
    }

    @Test("does not let a cell drive the terminal")
    func escapes() {
        let lines = Table(columns: [.long("A")], rows: [["\u{1B}[31mred\u{7}"]]).lines(width: nil)
        #expect(lines[1] == "\\u001b[31mred\\u0007")
    }
}

@Suite("A JSON document")
struct JSONValueTests {
    @Test("reads back as the same values")
    func readsBack() throws {
        let value = JSONValue.object([
            "text": "a\"b\\c\n\u{1B}",
            "number": 5,
            "share": .number(0.25),
            "none": .null,
            "time": .time(Date(timeIntervalSince1970: 0.25)),
            "age": .seconds(.milliseconds(1500)),
            "list": .array([true, .object([:]), .array([])]),
            "payload": .raw(#"{"a": 1}"#),
        ])
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(value.text.utf8)) as? [String: Any]
        )
        #expect(object["text"] as? String == "a\"b\\c\n\u{1B}")
        #expect(object["number"] as? Int == 5)
        #expect(object["share"] as? Double == 0.25)
        #expect(object["none"] is NSNull)
        #expect(object["time"] as? String == "1970-01-01T00:00:00.250Z")
        #expect(object["age"] as? Double == 1.5)
        #expect((object["list"] as? [Any])?.count == 3)
        #expect((object["payload"] as? [String: Int]) == ["a": 1])
    }

    @Test(
        "tells ages in two units",
        arguments: [(0, "0s"), (0.25, "250ms"), (75, "1m15s"), (3725, "1h2m"), (90_061, "1d1h")]
    )
    func ages(seconds: Double, text: String) {
        #expect(Duration.seconds(seconds).shortText == text)
    }
}
