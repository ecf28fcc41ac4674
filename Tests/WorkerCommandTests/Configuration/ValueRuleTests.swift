import Breakwater
import Testing

@testable import WorkerCommand

@Suite("The rules for a value")
struct ValueRuleTests {
    @Test(
        "a share is a percentage or a fraction",
        arguments: [("50%", 0.5), ("0.5", 0.5), ("100%", 1), ("0.1%", 0.001)]
    )
    func shares(text: String, value: Double) throws {
        #expect(try ValueRule.share.read(text) == value)
    }

    @Test("a share is above nothing and at most all", arguments: ["0%", "0", "101%", "1.5", "-5%", "nan", "inf%", "%"])
    func wrongShares(text: String) {
        let error = #expect(throws: ValueRefusal.self) { try ValueRule.share.read(text) }
        #expect(error?.message == "'\(text)' is not allowed; give a share above 0% and up to 100%, such as 50% or 0.5")
    }

    @Test("a whole number is within its range", arguments: ["0", "10", "-1", "1.0", "1e0", "0x1", "", "one"])
    func wrongNumbers(text: String) {
        let error = #expect(throws: ValueRefusal.self) { try ValueRule.whole(1...9).read(text) }
        #expect(error?.message == "'\(text)' is not allowed; give a whole number from 1 to 9")
    }

    @Test("a size has a unit", arguments: [("64KiB", 65_536), ("1MiB", 1 << 20), ("17B", 17)])
    func sizes(text: String, count: Int) throws {
        let rule = ValueRule.bytes(1...(1 << 30))
        #expect(try rule.read(text) == count)
        #expect(rule.text(count) == text)
    }

    @Test("a size without a unit is refused", arguments: ["64", "64KB", "0B", "2GiB", "KiB", "9223372036854775807GiB"])
    func wrongSizes(text: String) {
        #expect(throws: ValueRefusal.self) { try ValueRule.bytes(1...(1 << 30)).read(text) }
    }

    @Test("off stands for nothing where that is allowed")
    func off() throws {
        #expect(try ValueRule.share.orOff().read("off") == .some(nil))
        #expect(try ValueRule.share.orOff().read("20%") == 0.2)
        #expect(throws: ValueRefusal("'0' is not allowed; give a whole number from 1 to 9, or off")) {
            try ValueRule.whole(1...9).orOff().read("0")
        }
    }

    @Test("a choice names its cases")
    func choices() throws {
        #expect(try ValueRule<RetryPolicy.Jitter>.choice.read("equal") == .equal)
        #expect(throws: ValueRefusal("'some' is not allowed; give one of full, equal, none")) {
            try ValueRule<RetryPolicy.Jitter>.choice.read("some")
        }
    }

    @Test("texts hold no control characters", arguments: ["", "a\nb", "\u{1B}[2J", "\u{202E}x", "123456"])
    func texts(text: String) {
        #expect(throws: ValueRefusal.self) { try ValueRule.text("a name", bytes: 1...5).read(text) }
    }
}

@Suite("Did you mean")
struct SpellingTests {
    private let known = ["concurrency", "queues", "lease", "shutdown_grace", "handlers"]

    @Test(
        "finds the word that was meant",
        arguments: [
            ("concurency", "concurrency"), ("queue", "queues"), ("quques", "queues"), ("leas", "lease"),
            ("shutdown-grace", "shutdown_grace"), ("Handlers", "handlers"), ("laese", "lease"),
        ]
    )
    func finds(word: String, meant: String) {
        #expect(Spelling.suggestion(for: word, among: known) == meant)
    }

    @Test("suggests nothing for a word that is far from all", arguments: ["workers_per_node", "x", "timeout", ""])
    func stays(word: String) {
        #expect(Spelling.suggestion(for: word, among: known) == nil)
    }
}

@Suite("Variables in the file")
struct SubstitutionTests {
    private let environment = ["NAME": "ada", "EMPTY": "", "TRICK": "${NAME}"]

    @Test(
        "take the environment's values",
        arguments: [
            ("plain $NAME", "plain $NAME"), ("${NAME}", "ada"), ("<${NAME}|${NAME}>", "<ada|ada>"), ("${EMPTY}", ""),
            ("${NONE:-bob}", "bob"), ("${EMPTY:-bob}", "bob"), ("${NAME:-bob}", "ada"), ("${NONE:-}", ""),
            ("$${NAME}", "${NAME}"), ("${TRICK}", "${NAME}"), ("100%$", "100%$"),
        ]
    )
    func substitutes(text: String, result: String) throws {
        #expect(try Substitution.apply(to: text, environment: environment).text == result)
    }

    @Test(
        "are refused when they are missing or not written out",
        arguments: [
            ("${NONE}", "the environment variable NONE is not set; set it, or write ${NONE:-text} to do without it"),
            ("${NAME", "'${NAME' has a ${ without its }; write ${NAME}, or $${ for the characters themselves"),
            ("${a b}", "'${a b}' does not name an environment variable; write ${NAME}"),
            ("${}", "'${}' does not name an environment variable; write ${NAME}"),
        ]
    )
    func refuses(text: String, message: String) {
        #expect(throws: ValueRefusal(message)) {
            try Substitution.apply(to: text, environment: environment)
        }
    }
}

@Suite("Secrets")
struct SecretsTests {
    @Test(
        "are masked in connection strings",
        arguments: [
            ("postgresql://app:s3cret@db/app", "postgresql://app:***@db/app"),
            ("postgresql://app:p@ss@db/app", "postgresql://app:***@db/app"),
            ("postgresql://app:p/ss@db/app", "postgresql://app:***@db/app"),
            ("postgresql://app@db/app?password=s3cret&x=1", "postgresql://app@db/app?password=***&x=1"),
            ("postgresql://db?sslpassword=s3cret", "postgresql://db?sslpassword=***"),
            ("postgresql:///app", "postgresql:///app"),
            ("postgresql://db:5432/app", "postgresql://db:5432/app"),
            ("host=db password=s3cret user=app", "host=db password=*** user=app"),
            ("password = 's3 c\\'ret' user=app", "password = *** user=app"),
            ("host=db dbname=app", "host=db dbname=app"),
        ]
    )
    func conninfo(text: String, masked: String) {
        #expect(Secrets.maskingPasswords(inConninfo: text) == masked)
    }

    @Test(
        "are known by the names of headers and variables",
        arguments: [
            ("Authorization", true), ("X-Api-Key", true), ("Cookie", true), ("SMTP_PASSWORD", true),
            ("GITHUB_TOKEN", true), ("Content-Type", false), ("PATH", false), ("X-Region", false),
        ]
    )
    func names(name: String, isSecret: Bool) {
        #expect(Secrets.isSecretName(name) == isSecret)
    }
}
