import Breakwater
import Testing

@testable import WorkerCommand

@Suite("The text of a duration")
struct DurationTextTests {
    @Test(
        "reads numbers with units, alone or several",
        arguments: [
            ("500ms", Duration.milliseconds(500)), ("30s", .seconds(30)), ("5m", .seconds(300)),
            ("1h", .seconds(3600)), ("1d", .seconds(86_400)), ("1h30m", .seconds(5400)),
            ("1d2h3m4s5ms", .milliseconds(93_784_005)), ("0s", .zero), ("90s", .seconds(90)),
        ]
    )
    func reads(text: String, duration: Duration) throws {
        #expect(try Duration(text: text) == duration)
    }

    @Test("refuses a bare number and says what to write", arguments: ["30", "0", "1.5", "-3"])
    func refusesBareNumbers(text: String) {
        let error = #expect(throws: ValueRefusal.self) { try Duration(text: text) }
        #expect(error?.message.contains("'\(text)' has no unit; write ") == true)
    }

    @Test(
        "refuses everything else",
        arguments: [
            "", " ", "30 s", "s", "5x", "1m1h", "1s1s", "-5s", "1.5s", "５s", "1h30", "9223372036854775807d", "1e3s",
            "99999999999999999999s",
        ]
    )
    func refuses(text: String) {
        let error = #expect(throws: ValueRefusal.self) { try Duration(text: text) }
        #expect(error?.message.contains("is not a duration; write one like 500ms") == true)
    }

    @Test(
        "is written so that it reads back",
        arguments: [(0, "0s"), (500, "500ms"), (5_400_000, "1h30m"), (86_400_000, "1d"), (61_001, "1m1s1ms")]
    )
    func writes(milliseconds: Int64, text: String) throws {
        #expect(Duration.milliseconds(milliseconds).text == text)
        #expect(try Duration(text: text) == .milliseconds(milliseconds))
    }
}
