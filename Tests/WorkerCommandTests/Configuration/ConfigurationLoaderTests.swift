import Breakwater
import Libpq
import Logging
import Testing

@testable import WorkerCommand

/// Loads a text as the file `worker.yaml`.
func load(
    _ text: String,
    environment: [String: String] = [:],
    flags: [String: SettingText] = [:],
    registered: [HandlerRegistration] = []
) throws -> LoadedConfiguration {
    try ConfigurationLoader(flags: flags, environment: environment, registered: registered)
        .load(ConfigurationFile(name: "worker.yaml", text: text))
}

/// A handler that does nothing.
struct Idle: JobHandler {
    struct Payload: Codable {}
    func handle(_ payload: Payload, context: JobContext) async throws -> JobOutcome { .succeeded() }
}

@Suite("A configuration file")
struct ConfigurationLoaderTests {
    @Test("sets every top-level key")
    func topLevel() throws {
        let loaded = try load(
            """
            database: postgresql:///app
            queues: [default, bulk]
            concurrency: 50
            lease: 45s
            shutdown_grace: 1m
            poll_interval: 250ms
            listen: false
            name: box-1
            log_level: debug
            log_format: json
            handlers: { a: { exec: { command: [cat] } } }
            """
        )
        #expect(loaded.worker.database.conninfo == "postgresql:///app")
        #expect(loaded.worker.queues == ["default", "bulk"])
        #expect(loaded.worker.concurrency == 50)
        #expect(loaded.worker.lease == .seconds(45))
        #expect(loaded.worker.shutdownGrace == .seconds(60))
        #expect(loaded.worker.pollInterval == .milliseconds(250))
        #expect(loaded.worker.listens == false)
        #expect(loaded.worker.name == "box-1")
        #expect(loaded.logLevel == .debug)
        #expect(loaded.logFormat == .json)
        #expect(loaded.warnings.isEmpty)
    }

    @Test("sets every key of a schedule, and shows variables in its payload by their names")
    func schedules() throws {
        let loaded = try load(
            """
            handlers: { k: { exec: { command: [cat] } } }
            schedules:
              nightly: { cron: "0 3 * * *", time_zone: Europe/Berlin, kind: k, payload: { token: "${TOKEN}", n: 1 }, queue: q,
                         priority: 1, unique_key: u, missed: all, missed_after: 90s, missed_limit: 7, overlap: skip }
              ping: { every: 90s, kind: k }
            """,
            environment: ["TOKEN": "sesame"]
        )
        var nightly = Schedule(name: "nightly", .cron("0 3 * * *"), kind: "k")
        nightly.timeZone = "Europe/Berlin"
        nightly.payload = #"{"token":"sesame","n":1}"#
        nightly.queue = "q"
        nightly.priority = 1
        nightly.uniqueKey = "u"
        nightly.missed = .all
        nightly.missedAfter = .seconds(90)
        nightly.missedLimit = 7
        nightly.overlap = .skip
        #expect(loaded.worker.schedules == [nightly, Schedule(name: "ping", .every(.seconds(90)), kind: "k")])
        #expect(loaded.warnings.isEmpty)
        #expect(!loaded.effectiveText.contains("sesame"))
        #expect(loaded.effectiveText.contains(#"payload: {"token":"${TOKEN}","n":1}"#), "\(loaded.effectiveText)")
    }

    @Test("needs only a handler")
    func defaults() throws {
        let loaded = try load("handlers: { a: { exec: { command: [cat] } } }")
        #expect(loaded.worker.database.conninfo == "")
        #expect(loaded.worker.queues == ["default"])
        #expect(loaded.worker.concurrency == 200)
        #expect(loaded.worker.lease == .seconds(30))
        #expect(loaded.worker.shutdownGrace == .seconds(30))
        #expect(loaded.worker.pollInterval == .seconds(1))
        #expect(loaded.worker.listens)
        #expect(loaded.logLevel == .info)
        #expect(loaded.worker.handlers.map(\.kind) == ["a"])
        #expect(loaded.worker.handlers.first?.settings == HandlerSettings())
    }

    @Test("sets every key of a handler")
    func handler() throws {
        let loaded = try load(
            """
            handlers:
              webhook.deliver:
                http:
                  url: "http://127.0.0.1:8080/hook"
                  headers: { Authorization: Bearer x, X-Region: eu }
                  secret: whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz
                  allow: [127.0.0.1, 10.0.0.0/8]
                  max_response: 16KiB
                concurrency: 50
                timeout: 10s
                keep_results: 7d
                retry:
                  max_attempts: 10
                  backoff: linear
                  base: 2s
                  factor: 1.5
                  cap: 1h30m
                  jitter: equal
                  retry_on: [http.4*]
                  discard_on: [http.413, exit.3]
                  only_on: [http.5*, timeout]
                  max_age: 3d
                  budget: 150%
                circuit:
                  failure_rate: 0.25
                  slow_call: 2s
                  slow_rate: 60%
                  window: 2m
                  minimum_calls: 5
                  consecutive_failures: off
                  count_on: [http.404]
                  ignore_on: [http.5*]
                  trip_on: [http.refused, "*"]
                  retry_after: true
                  open_for: 500ms
                  open_factor: 3
                  open_cap: 5m
                  probes: 1
                  successes_to_close: 2
                  half_open_for: 5m
                  ramp: 0s
                  suspend_workers: false
                  key: $.customer.host
                  fallback: { reroute: webhook.later }
              webhook.later: { exec: { command: [cat] } }
            """
        )
        let settings = try #require(loaded.worker.handlers.first?.settings)
        #expect(settings.concurrency == 50)
        #expect(settings.timeout == .seconds(10))
        #expect(settings.keepResults == .seconds(7 * 86_400))
        #expect(settings.retry.maxAttempts == 10)
        #expect(settings.retry.backoff == .linear)
        #expect(settings.retry.base == .seconds(2))
        #expect(settings.retry.factor == 1.5)
        #expect(settings.retry.cap == .seconds(5400))
        #expect(settings.retry.jitter == .equal)
        #expect(settings.retry.retryOn == ["http.4*"])
        #expect(settings.retry.discardOn == ["http.413", "exit.3"])
        #expect(settings.retry.onlyOn == ["http.5*", "timeout"])
        #expect(settings.retry.maxAge == .seconds(3 * 86_400))
        #expect(settings.retry.budget == 1.5)
        #expect(settings.circuit.isEnabled)
        #expect(settings.circuit.failureRate == 0.25)
        #expect(settings.circuit.slowCall == .seconds(2))
        #expect(settings.circuit.slowRate == 0.6)
        #expect(settings.circuit.window == .time(.seconds(120)))
        #expect(settings.circuit.minimumCalls == 5)
        #expect(settings.circuit.consecutiveFailures == nil)
        #expect(settings.circuit.countOn == ["http.404"])
        #expect(settings.circuit.ignoreOn == ["http.5*"])
        #expect(settings.circuit.tripOn == ["http.refused", "*"])
        #expect(settings.circuit.honoursRetryAfter)
        #expect(settings.circuit.openFor == .milliseconds(500))
        #expect(settings.circuit.openFactor == 3)
        #expect(settings.circuit.openCap == .seconds(300))
        #expect(settings.circuit.probes == 1)
        #expect(settings.circuit.successesToClose == 2)
        #expect(settings.circuit.halfOpenFor == .seconds(300))
        #expect(settings.circuit.ramp == .zero)
        #expect(!settings.circuit.suspendsWorkers)
        #expect(settings.circuit.key == .path(["customer", "host"]))
        #expect(settings.circuit.fallback == .reroute(kind: "webhook.later"))
        #expect(
            loaded.warnings == [
                "worker.yaml:16: handlers.webhook.deliver.retry.factor: it has no effect with the backoff linear"
            ]
        )
    }

    @Test(
        "takes a word as the fallback",
        arguments: [("hold", CircuitPolicy.Fallback.hold), ("dead_letter", .deadLetter)]
    )
    func fallbackWord(word: String, fallback: CircuitPolicy.Fallback) throws {
        let loaded = try load("handlers: { a: { exec: { command: [cat] }, circuit: { fallback: \(word) } } }")
        #expect(loaded.worker.handlers.first?.settings.circuit.fallback == fallback)
    }

    @Test("may count calls instead of time, and then needs no more calls than it holds", arguments: [5, 500])
    func countWindow(calls: Int) throws {
        let loaded = try load("handlers: { a: { exec: { command: [cat] }, circuit: { window: \(calls) calls } } }")
        let circuit = try #require(loaded.worker.handlers.first?.settings.circuit)
        #expect(circuit.window == .calls(calls))
        #expect(circuit.minimumCalls == min(20, calls))
    }

    @Test("shows its effective settings as a file that means the same")
    func effective() throws {
        let text = """
            handlers:
              a:
                exec: { command: [cat] }
                retry: { only_on: ["x*"], budget: off, max_age: 1d }
                circuit:
                  { window: 100 calls, key: '$.a[0]["b c"]', slow_call: 5s, fallback: { reroute: b }, half_open_for: 9s }
              b: { exec: { command: [cat] }, circuit: { key: payments, ramp: 1m, fallback: { succeed: { a: [1] } } } }
              c: { exec: { command: [cat] }, circuit: off }
            """
        let first = try load(text)
        let second = try load(first.effectiveText)
        #expect(second.worker.handlers.map(\.settings) == first.worker.handlers.map(\.settings))
        // The comments differ, because the top-level values have another source the second time.
        let comments = #/ {2}# .*/#
        #expect(second.effectiveText.replacing(comments, with: "") == first.effectiveText.replacing(comments, with: ""))
    }

    @Test("sets every key of an exec handler")
    func exec() throws {
        let loaded = try load(
            """
            handlers:
              file.digest:
                exec:
                  command: [sha256sum, -b]
                  environment: { LC_ALL: C, API_TOKEN: "${TOKEN}" }
                  inherit: [PATH]
                  working_directory: /
                  max_output: 1KiB
                  kill_after: 1s
            """,
            environment: ["TOKEN": "t0ken"]
        )
        #expect(loaded.worker.handlers.map(\.kind) == ["file.digest"])
    }

    @Test("turns a circuit off by a word or by a key", arguments: ["off", "{ enabled: false }"])
    func circuitOff(value: String) throws {
        let loaded = try load("handlers: { a: { exec: { command: [cat] }, circuit: \(value) } }")
        #expect(loaded.worker.handlers.first?.settings.circuit.isEnabled == false)
    }

    @Test(
        "takes any JSON value as the result of the fallback",
        arguments: [
            ("{ succeed: null }", "null"),
            ("{ succeed: { queued: true, n: [1, -2.50, 1e3] } }", #"{"queued":true,"n":[1,-2.50,1e3]}"#),
            ("{ succeed: text }", #""text""#), ("{ succeed: \"1\" }", #""1""#), ("{ succeed: 007 }", #""007""#),
            ("{ succeed: \"a\\nb\" }", #""a\nb""#), ("{ succeed: \"${WHO}\" }", #""ada""#),
            ("{ succeed: yes }", #""yes""#),
        ]
    )
    func fallbackResult(value: String, json: String) throws {
        let loaded = try load(
            "handlers: { a: { exec: { command: [cat] }, circuit: { fallback: \(value) } } }",
            environment: ["WHO": "ada"]
        )
        #expect(loaded.worker.handlers.first?.settings.circuit.fallback == .succeed(result: json))
    }

    @Test("may use YAML's anchors for settings that handlers share")
    func anchors() throws {
        let loaded = try load(
            """
            handlers:
              a: { exec: { command: [cat] }, retry: &patient { max_attempts: 3, base: 5s } }
              b: { exec: { command: [cat] }, retry: *patient }
            """
        )
        #expect(loaded.worker.handlers.map(\.settings.retry.maxAttempts) == [3, 3])
    }

    @Test("gives settings to handlers registered in Swift")
    func swiftHandlers() throws {
        var settings = HandlerSettings()
        settings.timeout = .seconds(5)
        settings.retry.maxAttempts = 7
        let registered = [
            HandlerRegistration(kind: "email.send", handler: Idle(), settings: settings),
            HandlerRegistration(kind: "email.bounce", handler: Idle(), settings: settings),
        ]
        let loaded = try load(
            "handlers: { email.send: { swift: {}, timeout: 9s, retry: { base: 3s } }, x: { exec: { command: [cat] } } }",
            registered: registered
        )
        #expect(loaded.worker.handlers.map(\.kind) == ["email.send", "x", "email.bounce"])
        let changed = try #require(loaded.worker.handlers.first?.settings)
        #expect(changed.timeout == .seconds(9))
        #expect(changed.retry.base == .seconds(3))
        #expect(changed.retry.maxAttempts == 7)
        #expect(loaded.worker.handlers.last?.settings == settings)
    }

    @Test("is not needed when handlers are registered in Swift")
    func noFile() throws {
        let loader = ConfigurationLoader(registered: [HandlerRegistration(kind: "email.send", handler: Idle())])
        #expect(try loader.load(nil).worker.handlers.map(\.kind) == ["email.send"])
    }
}
