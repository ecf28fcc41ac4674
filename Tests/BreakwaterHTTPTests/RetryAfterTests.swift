import Foundation
import Testing

@testable import BreakwaterHTTP

@Suite struct RetryAfterTests {
    // Sun, 06 Nov 1994 08:49:37 GMT
    private let now = Date(timeIntervalSince1970: 784_111_777)

    @Test(arguments: [
        ("0", Duration.zero), ("1", .seconds(1)), (" 120 ", .seconds(120)), ("86400", .seconds(86_400)),
        ("86401", .seconds(86_400)), ("99999999999999999999999", .seconds(86_400)),
        ("Sun, 06 Nov 1994 08:50:37 GMT", .seconds(60)), ("Sunday, 06-Nov-94 08:50:37 GMT", .seconds(60)),
        ("Sun Nov  6 08:50:37 1994", .seconds(60)), ("Sun, 06 Nov 1994 08:49:37 GMT", .zero),
        ("Sun, 06 Nov 1994 08:00:00 GMT", .zero), ("Thu, 01 Jan 1970 00:00:00 GMT", .zero),
        ("Fri, 31 Dec 2100 23:59:59 GMT", .seconds(86_400)),
    ])
    func values(value: String, expected: Duration) {
        #expect(RetryAfter.duration(value, date: nil, now: now) == expected)
    }

    @Test(arguments: [
        "", " ", "-1", "1.5", "+5", "soon", "5 minutes", "Sunday", "0x10", "Sun, 99 Foo 1994 08:49:37 GMT",
    ])
    func garbageIsIgnored(value: String) {
        #expect(RetryAfter.duration(value, date: nil, now: now) == nil)
    }

    @Test func aPartOfASecondIsRoundedUp() {
        let date = "Sun, 06 Nov 1994 08:49:38 GMT"
        #expect(RetryAfter.duration(date, date: nil, now: now.addingTimeInterval(0.9)) == .seconds(1))
    }

    @Test func noHeaderIsNoDuration() {
        #expect(RetryAfter.duration(nil, date: nil, now: now) == nil)
    }

    @Test func theServersClockCounts() {
        let wrong = now.addingTimeInterval(3600)
        let (value, date) = ("Sun, 06 Nov 1994 08:50:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT")
        #expect(RetryAfter.duration(value, date: date, now: wrong) == .seconds(60))
        #expect(RetryAfter.duration(value, date: "yesterday", now: now) == .seconds(60))
    }
}
