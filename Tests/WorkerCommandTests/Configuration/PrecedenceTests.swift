import Breakwater
import Libpq
import Testing

@testable import WorkerCommand

@Suite("Several sources of settings")
struct PrecedenceTests {
    private let file = """
        database: postgresql:///file
        concurrency: 10
        queues: [file]
        handlers: { a: { exec: { command: [cat] } } }
        """

    @Test("flags take precedence over the environment, and the environment over the file")
    func order() throws {
        let environment = ["BREAKWATER_CONCURRENCY": "20", "BREAKWATER_QUEUES": "one,two", "BREAKWATER_LISTEN": "no"]
        let flags: [String: SettingText] = ["concurrency": .one("30")]
        #expect(try load(file).worker.concurrency == 10)
        #expect(try load(file, environment: environment).worker.concurrency == 20)
        #expect(try load(file, environment: environment, flags: flags).worker.concurrency == 30)
        #expect(try load(file, environment: environment).worker.queues == ["one", "two"])
        #expect(try load(file, environment: environment).worker.listens == false)
        #expect(try load(file, flags: ["queues": .list(["x", "y"])]).worker.queues == ["x", "y"])
    }

    @Test("a variable that is empty counts as not set")
    func empty() throws {
        #expect(try load(file, environment: ["BREAKWATER_CONCURRENCY": ""]).worker.concurrency == 10)
    }

    @Test("the file's database takes precedence over DATABASE_URL, which other programs use too")
    func database() throws {
        let environment = ["DATABASE_URL": "postgresql:///url"]
        let own = environment.merging(["BREAKWATER_DATABASE": "postgresql:///own"]) { $1 }
        let without = "handlers: { a: { exec: { command: [cat] } } }"
        #expect(try load(without, environment: environment).worker.database.conninfo == "postgresql:///url")
        #expect(try load(file, environment: environment).worker.database.conninfo == "postgresql:///file")
        #expect(try load(file, environment: own).worker.database.conninfo == "postgresql:///own")
        #expect(
            try load(file, environment: own, flags: ["database": .one("postgresql:///flag")]).worker.database.conninfo
                == "postgresql:///flag"
        )
    }

    @Test("a mistyped variable is reported, and a variable of another program is not")
    func warnings() throws {
        let environment = ["BREAKWATER_CONCURENCY": "5", "BREAKWATER_TEST_DATABASE": "x"]
        #expect(
            try load(file, environment: environment).warnings == [
                "the environment variable BREAKWATER_CONCURENCY is not known; did you mean BREAKWATER_CONCURRENCY?"
            ]
        )
    }
}

@Suite("The effective configuration")
struct EffectiveConfigurationTests {
    private let text = """
        database: "postgresql://app:${PW}@db/app?password=x"
        concurrency: 10
        handlers:
          hook:
            http:
              url: "https://example.com/?token=abc&x=1"
              headers: { Authorization: Bearer abc, X-Region: eu, X-From: "${REGION}" }
              secret: "${KEY:-whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz}"
            retry: { discard_on: ["http.4*"] }
            circuit: { fallback: { succeed: { ok: true } } }
          tool:
            exec: { command: [cat, "a b", "#"], environment: { API_TOKEN: abc, MODE: fast, FROM: "${REGION}" } }
            circuit: off
        """
    private let environment = ["PW": "hunter2", "REGION": "north", "BREAKWATER_LEASE": "45s"]

    @Test("says where each top-level value came from")
    func origins() throws {
        let lines = try load(text, environment: environment, flags: ["queues": .list(["x"])]).effectiveText
            .split(separator: "\n")
        #expect(lines.contains("queues: [x]  # flag, --queues"))
        #expect(lines.contains("lease: 45s  # environment, BREAKWATER_LEASE"))
        #expect(lines.contains("concurrency: 10  # file, worker.yaml:2"))
        #expect(lines.contains("shutdown_grace: 30s  # default"))
    }

    @Test("masks passwords, secrets, and values that come from variables")
    func masks() throws {
        let shown = try load(text, environment: environment).effectiveText
        for secret in ["hunter2", "abc", "whsec", "north", "password=x"] {
            #expect(!shown.contains(secret), "\(secret) is shown in:\n\(shown)")
        }
        for visible in ["X-Region: eu", "MODE: fast", "${REGION}", "secret: \"***\"", "Authorization: \"***\""] {
            #expect(shown.contains(visible), "\(visible) is not shown in:\n\(shown)")
        }
    }

    @Test("reads back as the same configuration")
    func readsBack() throws {
        let plain = text.replacing("secret: \"${KEY", with: "max_response: \"${KEY").replacing(
            "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz",
            with: "2KiB"
        )
        let first = try load(plain, environment: environment)
        let second = try load(first.effectiveText, environment: environment)
        #expect(second.worker.handlers.map(\.settings) == first.worker.handlers.map(\.settings))
        #expect(second.worker.concurrency == first.worker.concurrency)
        #expect(second.worker.lease == first.worker.lease)
    }
}
