import Testing

@testable import BreakwaterDashboard

@Suite("Markup")
struct HTMLTests {
    @Test("cannot come from a text", arguments: hostileTexts)
    func texts(text: String) {
        let html = el(.p, .named("title", text)) { text }.document
        let inside = html.dropFirst("<!doctype html>\n<p title=\"".count)
        // Whatever the text is, the result has one element with one attribute.
        #expect(html.count { $0 == "<" } == 3, "\(html)")
        #expect(html.count { $0 == "\"" } == 2, "\(html)")
        #expect(!inside.contains("'") && !inside.contains("`"))
        for scalar in html.unicodeScalars where scalar != "\n" {
            #expect(!(0...0x1F).contains(scalar.value) && !(0x7F...0x9F).contains(scalar.value))
            #expect(![0x202E, 0x200B, 0xFEFF].contains(scalar.value), "invisible characters are shown")
        }
    }

    @Test("escapes text, and has attributes and flags as given")
    func plain() {
        #expect(el(.p, text: "a & b < c").document == "<!doctype html>\n<p>a &amp; b &lt; c</p>")
        #expect(
            el(.input, .name("n"), .flag("required"), .named("max", nil)).document.hasSuffix(
                #"<input name="n" required="">"#
            )
        )
    }

    @Test("has no links out of the dashboard", arguments: hostileTexts)
    func links(text: String) {
        let link = Link("/jobs").with("kind", text).with("none", nil)
        #expect(link.text.hasPrefix("/jobs?kind=") && !link.text.hasPrefix("//"))
        #expect(link.text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F })
        #expect(FormValues(link.text.dropFirst("/jobs?".count))["kind"] == text)
    }

    @Test("reads forms, and leaves out broken parts")
    func forms() {
        let values = FormValues("a=1&b=x+y%20z&a=2&broken=%4&nul=%00&bad=%ff&empty=&lone")
        #expect(values["a"] == "1" && values.all("a") == ["1", "2"] && values["b"] == "x y z")
        #expect(values["broken"] == nil && values["nul"] == nil && values["bad"] == nil)
        #expect(values["empty"] == nil && values["lone"] == nil && values.all("empty") == [""])
    }

    @Test("formats durations and numbers for people")
    func formats() {
        #expect(Duration.milliseconds(850).short == "850 ms")
        #expect(Duration.seconds(250).short == "4 min 10 s")
        #expect(Duration.seconds(3 * 3600 + 5 * 60).short == "3 h 5 min")
        #expect(Duration.seconds(26 * 86_400 + 3600).short == "26 d")
        #expect(1_234_567.grouped == "1\u{202F}234\u{202F}567" && 12_000.grouped(cap: 10_000) == "10\u{202F}000+")
        #expect(0.004.percent == "0.4 %" && 0.5.percent == "50 %" && 0.0.percent == "0 %")
    }
}
