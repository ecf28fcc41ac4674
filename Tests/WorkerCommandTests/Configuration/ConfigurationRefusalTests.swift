import Breakwater
import Testing

@testable import WorkerCommand

/// Returns the messages about a text, or none if it is valid.
private func problems(
    _ text: String,
    environment: [String: String] = [:],
    flags: [String: SettingText] = [:],
    registered: [HandlerRegistration] = []
) -> [String] {
    do {
        _ = try load(text, environment: environment, flags: flags, registered: registered)
        return []
    } catch let error as ConfigurationError {
        return error.problems.map(\.description)
    } catch {
        return ["unexpected: \(error)"]
    }
}

/// Checks a file whose only handler has these keys beside its program. Its problems are in line 1.
private func problems(handler keys: String) -> [String] {
    problems("handlers: { a: { exec: { command: [cat] }, \(keys) } }")
}

/// The allowed values that several keys share.
private let aCount = "give a whole number from 1 to 1000000"
private let aDuration = "write one like 500ms, 30s, 5m, 1h, 1d or 1h30m"
private let aFallback = "give hold, dead_letter, { succeed: a JSON value } or { reroute: a kind }"
private let aPath = "write names and numbers, such as $.customer.host, $.hosts[0] or $[\"home page\"]"
private let aURL = "give an http or https URL with a host, such as https://example.com/hook"
private let aURLOrPath = aURL + ", or a path such as $.url"
private let aProgram = "there is no program to run; give a list that begins with one: [sha256sum, -b]"

private let fine = "\nhandlers: { a: { exec: { command: [cat] } } }"

@Suite("A configuration is refused")
struct ConfigurationRefusalTests {
    @Test(
        "for a wrong value at the top, with the line, the key, the value and what is allowed",
        arguments: [
            ("concurrency: 0", "concurrency: '0' is not allowed; give a whole number from 1 to 10000"),
            ("concurrency: -3", "concurrency: '-3' is not allowed; give a whole number from 1 to 10000"),
            ("concurrency: many", "concurrency: 'many' is not allowed; give a whole number from 1 to 10000"),
            ("concurrency: [1]", "concurrency: a list is not allowed; give one value"),
            ("concurrency:", "concurrency: there is no value; give one value, or leave the key out"),
            ("lease: 500ms", "lease: '500ms' is not allowed; give a duration from 1s to 1d, such as 30s"),
            ("lease: 30", "lease: '30' has no unit; write 30s, or another of ms, s, m, h and d"),
            ("shutdown_grace: soon", "shutdown_grace: 'soon' is not a duration; " + aDuration),
            ("poll_interval: 1ms", "poll_interval: '1ms' is not allowed; give a duration from 10ms to 1d, such as 30s"),
            ("listen: maybe", "listen: 'maybe' is not allowed; give true or false"),
            ("log_format: xml", "log_format: 'xml' is not allowed; give one of auto, text, json"),
            ("queues: default", "queues: 'default' is not a list; give [default, bulk]"),
            ("queues: []", "queues: the list is empty; give at least one, or leave the key out for default"),
            ("queues: [a, a]", "queues: 'a' is given twice; name each once"),
            (
                "queues: ['']",
                "queues: '' is not allowed; give a queue's name of 1 to 200 bytes, without control characters"
            ),
            ("concurency: 5", "concurency: this key is not known; did you mean 'concurrency'?"),
            (
                "name: ${NOBODY}",
                "name: the environment variable NOBODY is not set; set it, or write ${NOBODY:-text} to do without it"
            ),
        ]
    )
    func topLevel(line: String, message: String) {
        #expect(problems("# a comment\n" + line + fine) == ["worker.yaml:2: " + message])
    }

    @Test(
        "for an invalid notify",
        arguments: [
            ("5", "notify: '5' is not a mapping of keys"),
            (
                "{}",
                "notify: say who is told: a url, such as \"https://example.com/hook\", or a command, such as [page, ops]"
            ),
            ("{ url: \"http://h/\", command: [cat] }", "notify.command: there is a url as well; give one of them"),
            ("{ url: somewhere }", "notify.url: 'somewhere' is not allowed; " + aURL),
            ("{ url: \"http://h/\", secrt: x }", "notify.secrt: this key is not known; did you mean 'secret'?"),
            (
                "{ url: \"http://h/\", secret: short-and-private }",
                "notify.secret: the secret is not a Standard Webhooks key: it must be 'whsec_' followed by Base64"
            ),
            (
                "{ command: [] }",
                "notify.command: there is no program to run; give a list that begins with one: [page, ops]"
            ),
            ("{ command: cat }", "notify.command: 'cat' is not a list; give [a, b], each a text without NUL"),
            (
                "{ command: [cat], secret: x }",
                "notify.secret: a command gets its message on standard input, unsigned; leave the secret out"
            ),
        ]
    )
    func notify(value: String, message: String) {
        #expect(problems("notify: " + value + fine) == ["worker.yaml:1: " + message])
    }

    @Test(
        "for an invalid schedule",
        arguments: [
            ("5", "schedules.s: '5' is not a mapping of keys"),
            ("{ kind: k }", "schedules.s: nothing says when it runs; give cron: \"0 3 * * *\" or every: 90s"),
            (
                "{ cron: '* * * * *', every: 1s, kind: k }",
                "schedules.s.every: there is a cron as well; give one of them"
            ),
            ("{ every: 1s }", "schedules.s.kind: a schedule needs the kind of its jobs, such as report.build"),
            (
                "{ every: 1500ms, kind: k }",
                "schedules.s.every: '1500ms' is not allowed; give a duration from 1s to 3650d, such as 30s, in whole seconds"
            ),
            (
                "{ every: 1s, time_zone: UTC, kind: k }",
                "schedules.s.time_zone: an interval follows UTC; leave the time zone out, or give a cron"
            ),
            (
                "{ every: 1s, kind: k, payload: [1] }",
                "schedules.s.payload: a list is not a mapping; give { key: value }"
            ),
            (
                "{ every: 1s, kind: k, payload: { schedule: 1 } }",
                "schedules.s.payload: each job's payload gets the key 'schedule' with its slot; give it another name"
            ),
            (
                "{ every: 1s, kind: k, missed: two }",
                "schedules.s.missed: 'two' is not allowed; give one of one, all, skip"
            ),
            (
                "{ every: 1s, kind: k, overlap: no }",
                "schedules.s.overlap: 'no' is not allowed; give one of allow, skip"
            ),
            (
                "{ every: 1s, kind: k, missed_limit: 1001 }",
                "schedules.s.missed_limit: '1001' is not allowed; give a whole number from 1 to 1000"
            ),
            (
                "{ every: 1s, kind: k, prioritiy: 1 }",
                "schedules.s.prioritiy: this key is not known; did you mean 'priority'?"
            ),
        ]
    )
    func schedule(value: String, message: String) {
        #expect(problems("schedules: { s: " + value + " }" + fine) == ["worker.yaml:1: " + message])
    }

    @Test("for a notify whose program does not exist")
    func missingNotifyProgram() {
        let found = problems("notify: { command: [no-such-program-here] }" + fine)
        #expect(found.count == 1 && found[0].hasPrefix("worker.yaml:1: notify.command: "), "\(found)")
    }

    @Test(
        "for a wrong value in a handler",
        arguments: [
            ("concurrency: 0", "concurrency: '0' is not allowed; give a whole number from 1 to 10000, or off"),
            ("timeout: 0s", "timeout: '0s' is not allowed; give a duration from 1ms to 3650d, such as 30s"),
            ("keep_results: -1s", "keep_results: '-1s' is not a duration; " + aDuration),
            ("retry: { max_attempts: 0 }", "retry.max_attempts: '0' is not allowed; " + aCount),
            (
                "retry: { backoff: fast }",
                "retry.backoff: 'fast' is not allowed; give one of exponential, linear, constant, decorrelated"
            ),
            ("retry: { factor: 0.5 }", "retry.factor: '0.5' is not allowed; give a number from 1 to 1000"),
            ("retry: { factor: nan }", "retry.factor: 'nan' is not allowed; give a number from 1 to 1000"),
            ("retry: { jitter: lots }", "retry.jitter: 'lots' is not allowed; give one of full, equal, none"),
            (
                "retry: { base: 2h }",
                "retry.base: base, 2h, is longer than cap, 1h; give a base of at most cap, or a longer cap"
            ),
            (
                "retry: { retry_on: http.500 }",
                "retry.retry_on: 'http.500' is not a list; give [a, b], each the name of a failure, which may end in *, of 1 to 200 bytes, without control characters"
            ),
            ("retry: 5", "retry: '5' is not a mapping of keys"),
            ("retry: { max_atempts: 5 }", "retry.max_atempts: this key is not known; did you mean 'max_attempts'?"),
            (
                "circuit: { failure_rate: 150% }",
                "circuit.failure_rate: '150%' is not allowed; give a share above 0% and up to 100%, such as 50% or 0.5, or off"
            ),
            (
                "circuit: { window: 10ms }",
                "circuit.window: '10ms' is not allowed; give a duration from 1s to 1d, such as 60s, or a number from 1 to 10000 of calls, such as 100 calls"
            ),
            ("circuit: { minimum_calls: 0 }", "circuit.minimum_calls: '0' is not allowed; " + aCount),
            (
                "circuit: { consecutive_failures: 0 }",
                "circuit.consecutive_failures: '0' is not allowed; " + aCount + ", or off"
            ),
            (
                "circuit: { open_for: 1h }",
                "circuit.open_for: open_for, 1h, is longer than open_cap, 10m; give an open_for of at most open_cap, or a longer open_cap"
            ),
            ("circuit: { probes: 0 }", "circuit.probes: '0' is not allowed; give a whole number from 1 to 10000"),
            ("circuit: { fallback: drop }", "circuit.fallback: 'drop' is not allowed; " + aFallback),
            (
                "circuit: { fallback: { suceed: 1 } }",
                "circuit.fallback: 'suceed' is not allowed here; did you mean 'succeed'?"
            ),
            ("circuit: { fallback: { drop: 1 } }", "circuit.fallback: 'drop' is not allowed here; " + aFallback),
            (
                "circuit: { fallback: { succeed: 1, reroute: b } }",
                "circuit.fallback: 'succeed, reroute' is not allowed here; " + aFallback
            ),
            (
                "circuit: { fallback: { reroute: } }",
                "circuit.fallback: there is no value; give { reroute: a kind }, or leave the key out"
            ),
            (
                "circuit: { fallback: { reroute: a } }",
                "circuit.fallback: reroute: 'a' → 'a' leads back to the kind itself; give another kind, or another fallback"
            ),
            (
                "circuit: { window: 0 calls }",
                "circuit.window: '0 calls' is not allowed; give a duration from 1s to 1d, such as 60s, or a number from 1 to 10000 of calls, such as 100 calls"
            ),
            (
                "circuit: { window: soon }",
                "circuit.window: 'soon' is not allowed; give a duration from 1s to 1d, such as 60s, or a number from 1 to 10000 of calls, such as 100 calls"
            ),
            (
                "circuit: { window: 100 }",
                "circuit.window: '100' has no unit; write 100s for a time, or 100 calls for a count"
            ),
            (
                "circuit: { window: 10 calls, minimum_calls: 11 }",
                "circuit.minimum_calls: minimum_calls, 11, is more than the window of 10 calls ever holds; give at most 10, or a larger window"
            ),
            (
                "timeout: 5s, circuit: { slow_call: 5s }",
                "circuit.slow_call: slow_call, 5s, is not below the handler's timeout, 5s, which ends every call; give a shorter slow_call, or a longer timeout"
            ),
            (
                "circuit: { slow_call: 0s }",
                "circuit.slow_call: '0s' is not allowed; give a duration from 1ms to 3650d, such as 30s, or off"
            ),
            (
                "circuit: { slow_call: 1s, slow_rate: 0% }",
                "circuit.slow_rate: '0%' is not allowed; give a share above 0% and up to 100%, such as 50% or 0.5"
            ),
            (
                "circuit: { trip_on: [\"a*b\"] }",
                "circuit.trip_on: [0] 'a*b' has a * before its end; only the last character may be one: http.5*"
            ),
            (
                "circuit: { count_on: [x, y], ignore_on: [z, x] }",
                "circuit.ignore_on: 'x' is in both ignore_on and count_on; keep it in one of them"
            ),
            ("circuit: { retry_after: 30s }", "circuit.retry_after: '30s' is not allowed; give true or false"),
            (
                "circuit: { half_open_for: 10ms }",
                "circuit.half_open_for: '10ms' is not allowed; give a duration from 1s to 3650d, such as 30s, or off"
            ),
            ("circuit: { ramp: off }", "circuit.ramp: 'off' is not a duration; " + aDuration),
            (
                "circuit: { suspend_worker: no }",
                "circuit.suspend_worker: this key is not known; did you mean 'suspend_workers'?"
            ),
            (
                "circuit: { key: { path: a } }",
                "circuit.key: a mapping is not allowed; give a path into the payload, such as $.customer.host, or a name of 1 to 200 bytes that handlers share, or off"
            ),
            (
                "circuit: { key: .host }",
                "circuit.key: '.host' is neither a path nor a name; write $.host for what stands there in the payload"
            ),
            (
                "circuit: { key: $ }",
                "circuit.key: '$' is not the path of one value: it names nothing in the payload; " + aPath
            ),
            (
                "circuit: { key: \"$.a[*].b\" }",
                "circuit.key: '$.a[*].b' is not the path of one value: '[*].b' is not understood; " + aPath
            ),
            (
                "circuit: { key: $..host }",
                "circuit.key: '$..host' is not the path of one value: '..host' is not understood; " + aPath
            ),
            (
                "retry: { max_age: 0s }",
                "retry.max_age: '0s' is not allowed; give a duration from 1s to 3650d, such as 30s, or off"
            ),
            (
                "retry: { budget: -1% }",
                "retry.budget: '-1%' is not allowed; give a share from 0% to 10000%, such as 20% or 0.2, or off"
            ),
            (
                "retry: { retry_on: [x], discard_on: [x] }",
                "retry.discard_on: 'x' is in both discard_on and retry_on; keep it in one of them"
            ),
            (
                "retry: { only_on: [x], discard_on: [x] }",
                "retry.discard_on: 'x' is in both discard_on and only_on; keep it in one of them"
            ),
            ("http: { url: \"http://h/\" }", "http and exec are both given; a kind has one of them"),
            ("swift: {}", "exec and swift are both given; a kind has one of them"),
        ]
    )
    func handler(keys: String, message: String) {
        let separator = message.contains("both given") ? ": " : "."
        #expect(problems(handler: keys) == ["worker.yaml:1: handlers.a" + separator + message])
    }

    @Test(
        "for a wrong plugin",
        arguments: [
            ("{ exec: {} }", "exec.command: " + aProgram),
            ("{ exec: { command: [] } }", "exec.command: " + aProgram),
            (
                "{ exec: { command: [cat], inherit: [a=b] } }",
                "exec.inherit: [0] 'a=b' is not allowed; give the name of an environment variable: letters, digits and _"
            ),
            (
                "{ exec: { command: [cat], max_output: 5 } }",
                "exec.max_output: '5' is not allowed; give a size from 1B to 1GiB, such as 64KiB"
            ),
            (
                "{ http: {} }",
                "http: there is no url; give one, such as url: \"https://example.com/hook\", or endpoint: $.endpoint"
            ),
            ("{ http: { url: \"ftp://h/\" } }", "http.url: 'ftp://h/' is not allowed; " + aURLOrPath),
            ("{ http: { url: \"https://\" } }", "http.url: 'https://' is not allowed; " + aURLOrPath),
            (
                "{ http: { url: \"http://u:p@h/\" } }",
                "http.url: the url contains a user or a password; send them in a header, such as Authorization, instead"
            ),
            (
                "{ http: { url: \"http://h/\", headers: { \"a b\": c } } }",
                "http.headers.a b: 'a b' is not allowed; give the name of a header: letters, digits and any of !#$%&'*+-.^_`|~"
            ),
            (
                "{ http: { url: \"http://h/\", ca_file: /none.pem } }",
                "http.ca_file: the file of certificate authorities '/none.pem' cannot be read"
            ),
            (
                "{ stdio: {} }",
                "stdio.command: there is no program to run; give a list that begins with one: [python3, handler.py]"
            ),
            (
                "{ stdio: { command: [cat], processes: 0 } }",
                "stdio.processes: '0' is not allowed; give a whole number from 1 to 256"
            ),
            (
                "{ stdio: { command: [cat], jobs: 1001 } }",
                "stdio.jobs: '1001' is not allowed; give a whole number from 1 to 1000"
            ),
            (
                "{ stdio: { command: [cat], silence: 10ms } }",
                "stdio.silence: '10ms' is not allowed; give a duration from 1s to 1d, such as 30s"
            ),
            (
                "{ stdio: { command: [cat], recycle: { memory: 5KiB } } }",
                "stdio.recycle.memory: '5KiB' is not allowed; give a size from 1MiB to 1024GiB, such as 64KiB, or off"
            ),
            (
                "{ stdio: { command: [no-such-program], inherit: [], environment: { PATH: /usr/bin } } }",
                "stdio.command: the program 'no-such-program' was not found in PATH, which is /usr/bin"
            ),
            ("{ timeout: 1s }", ": nothing says what runs the jobs; give one of http, exec, stdio, sql, library"),
            (
                "{ swift: {} }",
                "swift: this executable has no Swift handler of the kind 'a'; give one of http, exec, stdio, sql, library"
            ),
            ("5", ": '5' is not a mapping of keys"),
            (
                "{ exe: { command: [cat] } }",
                ": nothing says what runs the jobs; give one of http, exec, stdio, sql, library"
            ),
        ]
    )
    func plugin(value: String, message: String) {
        let separator = message.hasPrefix(":") ? "" : "."
        let found = problems("handlers: { a: \(value) }")
        #expect(found.first == "worker.yaml:1: handlers.a" + separator + message)
    }

    @Test(
        "for a URL with a part that cannot be sent",
        arguments: [
            ("http://h:0/", "the url's port is 0, and no server can listen there: give 1 to 65535"),
            ("http://h/#a", "the url has a fragment, the part from '#' on, which is never sent: leave it out, or "),
            ("http://b\u{FC}cher.example/", "the url's host 'b\u{FC}cher.example' has characters outside ASCII: "),
            ("http://168.63.129.16/", "the url's host '168.63.129.16' is a cloud's metadata service; to "),
        ]
    )
    func url(url: String, message: String) {
        let found = problems("handlers: { a: { http: { url: \"\(url)\" } } }")
        #expect(found.first?.hasPrefix("worker.yaml:1: handlers.a.http.url: " + message) == true)
    }

    @Test("for a program that does not exist")
    func missingProgram() {
        let found = problems("handlers: { a: { exec: { command: [no-such-program-anywhere] } } }")
        #expect(found.count == 1)
        #expect(found.first?.hasPrefix("worker.yaml:1: handlers.a.exec.command: ") == true)
        #expect(found.first?.contains("no-such-program-anywhere") == true)
    }

    @Test("for a kind that is empty or too long", arguments: ["", String(repeating: "k", count: 201)])
    func kinds(kind: String) {
        let found = problems("handlers: { \"\(kind)\": { exec: { command: [cat] } } }")
        #expect(found.count == 1)
        #expect(found.first?.contains("is not allowed; give a kind of 1 to 200 bytes") == true)
    }

    @Test("for having no handler", arguments: ["", "concurrency: 5", "handlers: {}", "handlers:"])
    func noHandlers(text: String) {
        #expect(problems(text).first?.contains("handlers: there is no handler; a worker needs at least one") == true)
    }

    @Test("for a kind that is both in Swift and in the file")
    func twice() {
        let registered = [HandlerRegistration(kind: "a", handler: Idle())]
        #expect(
            problems("handlers: { a: { exec: { command: [cat] } } }", registered: registered)
                == ["worker.yaml:1: handlers.a.exec: this kind is registered in Swift; give swift: {} or another kind"]
        )
    }

    @Test("for a kind that is registered in Swift twice")
    func registeredTwice() {
        let registration = HandlerRegistration(kind: "b", handler: Idle())
        #expect(
            problems(fine, registered: [registration, registration])
                == ["registered in Swift: kind: the kind 'b' is registered twice; register each once"]
        )
    }

    @Test("for fallbacks that lead in a circle, which it names once, in the file's line")
    func circle() {
        let found = problems(
            """
            handlers:
              a: { exec: { command: [cat] }, circuit: { fallback: { reroute: b } } }
              b: { exec: { command: [cat] }, circuit: { fallback: { reroute: c } } }
              c: { exec: { command: [cat] }, circuit: { fallback: { reroute: d } } }
              d:
                exec: { command: [cat] }
                circuit:
                  fallback: { reroute: b }
            """
        )
        #expect(
            found == [
                "worker.yaml:3: handlers.b.circuit.fallback: reroute: 'b' → 'c' → 'd' → 'b' is a circle; "
                    + "give one of these kinds another fallback"
            ]
        )
    }

    @Test("for a circle that goes through a handler in Swift")
    func circleInSwift() {
        var settings = HandlerSettings()
        settings.circuit.fallback = .reroute(kind: "a")
        let found = problems(
            "handlers: { a: { exec: { command: [cat] }, circuit: { fallback: { reroute: b } } } }",
            registered: [HandlerRegistration(kind: "b", handler: Idle(), settings: settings)]
        )
        #expect(found.count == 1)
        #expect(found.first?.hasPrefix("worker.yaml:1: handlers.a.circuit.fallback: reroute: 'a' → 'b' → 'a'") == true)
    }

    @Test("for settings in Swift that cannot work")
    func codeSettings() {
        var settings = HandlerSettings()
        settings.retry.maxAttempts = 0
        let found = problems(fine, registered: [HandlerRegistration(kind: "b", handler: Idle(), settings: settings)])
        #expect(found == ["registered in Swift: handlers.b.retry.max_attempts is 0; it must be 1 to 1000000"])
    }

    @Test(
        "for not being YAML, with the line",
        arguments: [
            ("a: [1\nb: 2", "worker.yaml:2: this is not YAML: "),
            ("a: 1\na: 2", "worker.yaml:1: 'a' is given twice; keep one"),
            ("handlers: *nobody", "worker.yaml:1: this is not YAML: "), ("\tx: 1", "worker.yaml:1: this is not YAML: "),
            ("- 1", "worker.yaml:1: a list is not a mapping of keys"),
        ]
    )
    func notYAML(text: String, beginning: String) {
        #expect(problems(text).first?.hasPrefix(beginning) == true, "\(problems(text))")
    }

    @Test("for everything that is wrong, at once and in the order of the file")
    func many() {
        let found = problems(
            """
            quques: [a]
            concurrency: 0
            handlers:
              a:
                exec: { comand: [cat] }
                retry: { jiter: full }
              b: {}
            """,
            environment: ["BREAKWATER_LEASE": "7"],
            flags: ["poll_interval": .one("x")]
        )
        #expect(
            found.map { $0.prefix { $0 != ";" }.description } == [
                "environment variable BREAKWATER_LEASE: lease: '7' has no unit",
                "--poll-interval: poll_interval: 'x' is not a duration",
                "worker.yaml:1: quques: this key is not known",
                "worker.yaml:2: concurrency: '0' is not allowed",
                "worker.yaml:5: handlers.a.exec.command: there is no program to run",
                "worker.yaml:5: handlers.a.exec.comand: this key is not known",
                "worker.yaml:6: handlers.a.retry.jiter: this key is not known",
                "worker.yaml:7: handlers.b: nothing says what runs the jobs",
            ]
        )
    }

    @Test("without revealing its secrets")
    func secrets() {
        let found = problems(
            "handlers: { a: { http: { url: \"ftp://u:${PW}@h/?token=${PW}\", secret: \"${PW}\" } } }",
            environment: ["PW": "hunter2"],
            flags: ["database": .one("postgresql://u:hunter2@h/x\0")]
        )
        #expect(found.count == 2)
        #expect(!found.joined().contains("hunter2"), "\(found)")
    }
}
