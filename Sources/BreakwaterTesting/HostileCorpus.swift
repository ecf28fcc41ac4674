import Breakwater

/// Input from a malicious user or a broken program. Tests use it to show that code which receives it neither crashes
/// nor hangs, does not execute it, and never shows it unescaped to a user.
///
/// ```swift
/// for text in HostileCorpus.texts {
///     #expect(!page(showing: text.value).contains("<script>"))
/// }
/// ```
package enum HostileCorpus {
    /// A value with a name that tests can print instead of it.
    package struct Sample<Value: Sendable>: Sendable, CustomStringConvertible {
        /// What is special about the value.
        package var name: String
        /// The value.
        package var value: Value

        init(_ name: String, _ value: Value) {
            self.name = name
            self.value = value
        }

        /// The name.
        package var description: String { name }
    }

    /// Texts of up to 10 kB, all of them valid Unicode.
    package static let texts: [Sample<String>] = [
        Sample("empty", ""),
        Sample("blank", " \t "),
        Sample("NUL", "a\0b"),
        Sample("line breaks", "one\r\ntwo\rthree\nfour\u{85}five\u{2028}six"),
        Sample("single quotes", "'; drop table breakwater.job; --"),
        Sample("double quotes", "\"; select pg_sleep(60); \""),
        Sample("dollar quotes", "$$; drop schema breakwater cascade; $$"),
        Sample("backslashes", #"\'; \\ \x00 \u0000 \"#),
        Sample("semicolons", "a;b;;c"),
        Sample("a statement's parameter", "$1 $2 :name ?"),
        Sample("printf formats", "%s%n%@%1$s%999999999d"),
        Sample("Swift interpolation", #"\(exit(1)) ${HOME} ${NO_SUCH_VARIABLE} #{1}"#),
        Sample("a path upwards", "../../../../etc/passwd"),
        Sample("an absolute path", "/dev/zero"),
        Sample("a path with NUL", "/etc/passwd\0.json"),
        Sample("an option", "--database=postgresql://elsewhere"),
        Sample("a shell's substitution", "$(touch /tmp/owned) `touch /tmp/owned` | tee > < & ; ~ * ?"),
        Sample("a script", "<script>alert(1)</script>"),
        Sample("an attribute", "\" onmouseover=\"alert(1)\" x=\""),
        Sample("an image", "<img src=x onerror=alert(1)>"),
        Sample("a template", "{{constructor}} {{{raw}}} <%= 1 %> {% include %}"),
        Sample("entities", "&lt;b&gt;&amp;&#x27;"),
        Sample("a link", "javascript:alert(1)"),
        Sample("the end of a comment", "--> ]]> */ </style></script>"),
        Sample("a colour", "\u{1B}[31mred\u{1B}[0m"),
        Sample("a cleared screen", "\u{1B}[2J\u{1B}[H\u{1B}]0;title\u{7}"),
        Sample("a terminal's answer", "\u{1B}[6n\u{1B}P+q544e\u{1B}\\"),
        Sample("C1 controls", "\u{9B}31m\u{90}\u{9C}\u{85}"),
        Sample("backspaces", "rm -rf /\u{8}\u{8}\u{8}ls\u{7F}"),
        Sample("reversed", "\u{202E}gpj.exe\u{202C}"),
        Sample("isolates", "\u{2066}a\u{2067}b\u{2069}\u{200F}\u{61C}"),
        Sample("invisible", "a\u{200B}\u{2060}\u{FEFF}\u{AD}b"),
        Sample("combining", "e" + String(repeating: "\u{301}", count: 2000)),
        Sample("two ways to write one letter", "\u{E9}e\u{301}"),
        Sample("emoji", "👩‍👩‍👧‍👦🏳️‍🌈"),
        Sample("the last characters", "\u{FFFD}\u{FFFF}\u{10FFFF}\u{E000}"),
        Sample("a field of a log", "x\" level=critical msg=\"forged\n{\"level\":\"critical\"}"),
        Sample("headers", "a\r\nX-Forged: 1\r\n\r\n<html>"),
        Sample("a number", "9223372036854775808"),
        Sample("true", "true"),
        Sample("null", "null"),
        Sample("a star", "*"),
        Sample("a notification", "job:k:circuit:*"),
        Sample("200 bytes", String(repeating: "x", count: 200)),
        Sample("201 bytes", String(repeating: "x", count: 201)),
        Sample("10 kB", String(repeating: "0123456789", count: 1000)),
        Sample("10 kB of four-byte characters", String(repeating: "💣", count: 2500)),
    ]

    /// Texts that are valid names of kinds and queues: 1 to 200 bytes without control characters.
    package static let names = texts.filter { $0.value.isName }

    /// The name of a payload with one key several times. `jsonb` keeps only the last.
    static let repeatedKey = "one key often"

    /// JSON values that Postgres can store as `jsonb`, up to 10 MB.
    package static let payloads: [Sample<String>] =
        texts.filter { !$0.value.utf8.contains(0) }.map { Sample("a text: \($0.name)", quoted($0.value)) } + [
            Sample("an empty object", "{}"),
            Sample("null", "null"),
            Sample("a bare number", "-0"),
            Sample("a huge number", "1e15000"),
            Sample("a long number", String(repeating: "9", count: 10_000)),
            Sample("the smallest number", "1e-15000"),
            Sample("beyond 64 bits", "[9223372036854775807,9223372036854775808,-9223372036854775809]"),
            Sample(repeatedKey, #"{"a":1,"a":2,"":3}"#),
            Sample("hostile keys", #"{"__proto__":{},"constructor":1,"'; --":2,"<b>":3,"\u001b[2J":4,"\u202e":5}"#),
            Sample("white space", " \n\t[ ] \r\n"),
            Sample("500 deep", nested(500)),
            Sample("100,000 elements", "[" + Array(repeating: "0", count: 100_000).joined(separator: ",") + "]"),
            Sample("10,000 keys", "{" + (0..<10_000).map { "\"k\($0)\":\($0)" }.joined(separator: ",") + "}"),
            Sample("10 MB", "\"" + String(repeating: "0123456789", count: 1 << 20) + "\""),
        ]

    /// Texts that are no JSON, or JSON that `jsonb` refuses.
    package static let refusedPayloads: [Sample<String>] = [
        Sample("nothing", ""),
        Sample("half an object", #"{"a":"#),
        Sample("two values", "{} {}"),
        Sample("single quotes", "{'a':1}"),
        Sample("a trailing comma", "[1,]"),
        Sample("no number", "NaN"),
        Sample("an escaped NUL", #""a\u0000b""#),
        Sample("half a surrogate pair", #""\ud800""#),
        Sample("a raw control character", "\"\u{1}\""),
        Sample("a raw NUL", "\"\0\""),
        Sample("a number without end", "1e1000000"),
        Sample("100,000 deep", String(repeating: "[", count: 100_000)),
        Sample("100,000 deep and closed", nested(100_000)),
    ]

    /// Answers of programs and servers: any bytes, up to 10 MB.
    package static let outputs: [Sample<[UInt8]>] =
        (texts + payloads.filter { $0.value.utf8.count < 1 << 20 } + refusedPayloads)
        .map { Sample($0.name, Array($0.value.utf8)) } + [
            Sample("broken UTF-8", [0x61, 0xFF, 0xFE, 0xC3, 0x28, 0x62]),
            Sample("an overlong slash", [0xC0, 0xAF, 0xE0, 0x80, 0xAF]),
            Sample("an encoded surrogate", [0xED, 0xA0, 0x80]),
            Sample("half a character", [0x22, 0xF0, 0x9F, 0x92]),
            Sample("UTF-16", [0xFF, 0xFE, 0x7B, 0x00, 0x7D, 0x00]),
            Sample("a byte order mark", [0xEF, 0xBB, 0xBF, 0x7B, 0x7D]),
            Sample("every byte", Array(0...255)),
            Sample("NULs", Array(repeating: 0, count: 10_000)),
            Sample("10 MB of nothing in particular", Array(repeatElement(noise, count: 160).joined())),
        ]

    /// Ids near the limits of 32 and 64 bits.
    package static let ids: [Int64] = [
        Int64(Int32.max) - 1, Int64(Int32.max), Int64(Int32.max) + 1, Int64(UInt32.max), Int64(UInt32.max) + 1,
        1 << 53, (1 << 53) + 1, .max - 1, .max,
    ]

    /// 64 KiB without a pattern that could match any format.
    private static let noise = (0..<1 << 16).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 13) }

    private static func nested(_ depth: Int) -> String {
        String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    }

    /// The text as a JSON string.
    private static func quoted(_ text: String) -> String {
        var json = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": json += "\\\(scalar)"
            case _ where scalar.value < 0x20:
                json += "\\u00" + (scalar.value < 0x10 ? "0" : "") + String(scalar.value, radix: 16)
            default: json.unicodeScalars.append(scalar)
            }
        }
        return json + "\""
    }
}
