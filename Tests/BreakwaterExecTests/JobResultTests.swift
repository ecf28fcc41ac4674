import Breakwater
import Testing

@Suite struct JobResultTests {
    @Test(arguments: [
        "0", "-0.5e+10", "null", "true", #""""#, "[]", "{}", "\"é\"",
        #"{"a":{"b":[1,2,{"c":"\n\u00e9\ud83d\ude00"}]}}"#,
    ])
    func valuesAreKept(json: String) {
        #expect(JobResult.json(from: Array(json.utf8)) == json)
    }

    @Test(arguments: [
        "01", "+1", ".5", "1.", "1e", "nul", "NaN", "[1,]", "{\"a\"}", "{a:1}", "[1 2]", "'a'", "\"a",
        "\"\\x\"", "\"\\u12\"", "1 2", "1e99999", "\"\t\"",
    ])
    func otherTextBecomesAString(text: String) {
        let result = JobResult.json(from: Array(text.utf8))
        #expect(result?.hasPrefix("\"") == true)
        #expect(result != text)
        #expect(JobResult.json(from: Array(result!.utf8)) == result)
    }

    @Test func whatJSONBRefusesIsRepaired() {
        #expect(JobResult.json(from: Array(#"{"a\u0000b": "\u0000"}"#.utf8)) == #"{"ab": ""}"#)
        #expect(JobResult.json(from: Array(#""\\u0000""#.utf8)) == #""\\u0000""#)
        #expect(JobResult.json(from: Array(#""\ud83dx""#.utf8)) == #""\ufffdx""#)
        #expect(JobResult.json(from: Array(#""\ude00\ud83d""#.utf8)) == #""\ufffd\ufffd""#)
        #expect(JobResult.json(from: [0x22, 0xC0, 0x80, 0x22])?.contains("\0") == false)
    }

    @Test func deepNestingBecomesAString() {
        let deep = String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000)
        #expect(JobResult.json(from: Array(deep.utf8)) == "\"\(deep)\"")
    }

    @Test func controlCharactersAreEscaped() {
        #expect(JobResult.json(from: Array("a\u{1}\u{1F}\"\\\r\n\t".utf8)) == #""a\u0001\u001f\"\\\r\n\t""#)
    }

    @Test func aCutEndDropsTheBrokenCharacterOnly() {
        #expect(JobResult.json(from: Array("aé".utf8), isCut: true) == "\"aé\"")
        #expect(JobResult.json(from: Array("a€".utf8.dropLast()), isCut: true) == "\"a\"")
        #expect(JobResult.json(from: Array("[1]".utf8), isCut: true) == "\"[1]\"")
        #expect(JobResult.json(from: Array("a\u{1F600}".utf8.dropLast()), isCut: true) == "\"a\"")
    }
}
