import BreakwaterTesting
import Foundation
import TestPrograms
import Testing

@testable import WorkerCommand

@Suite(
    "Commands on endpoints",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct EndpointCommandTests {
    private let old = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

    @Test("add, change, show, disable, enable and remove them, and never show a secret")
    func life() async throws {
        try await withTestDatabase { database in
            #expect(try await database.worker("endpoints").output == "There are no endpoints.\n")
            let added = try await database.worker(
                "endpoints",
                "set",
                "acme",
                "--url",
                "https://a.example/in?token=hidden",
                "--secret",
                old,
                "--header",
                "Authorization: Bearer hidden",
                "--reason",
                "new customer"
            )
            #expect(added.output == "The endpoint 'acme' is added.\n", "\(added.errors)")
            let made = try await database.worker("endpoints", "set", "acme", "--new-secret", "--disable-after", "5d")
            let secret = try #require(made.output.firstMatch(of: /whsec_[A-Za-z0-9+\/=]+/)?.0)
            #expect(try await database.texts("select unnest(secrets) from breakwater.endpoint") == [String(secret)])
            let both = try await database.worker(
                "endpoints",
                "set",
                "acme",
                "--secret",
                "-",
                input: "\(old)\n\(secret)\n"
            )
            #expect(both.output == "The endpoint 'acme' is changed.\n", "\(both.errors)")

            let shown: [String: Any] = try await database.worker("endpoints", "show", "acme", "--json").json()
            #expect(shown["url"] as? String == "https://a.example/in")
            #expect(shown["secrets"] as? Int == 2)
            #expect(shown["headers"] as? [String] == ["Authorization"])
            #expect(shown["disable_after"] as? Int == 432_000)
            #expect(shown["state"] as? String == "enabled")

            let limited = try await database.worker(
                "endpoints",
                "set",
                "acme",
                "--concurrency",
                "2",
                "--rate",
                "90/min"
            )
            #expect(limited.status == 0, "\(limited.errors)")
            let details = try await database.worker("endpoints", "show", "acme").output
            #expect(details.contains("2 at once, 1.5/s, burst 1"), "\(details)")
            let free = try await database.worker("endpoints", "set", "acme", "--concurrency", "0", "--rate", "0")
            #expect(free.status == 0, "\(free.errors)")
            #expect(try await database.worker("endpoints", "show", "acme").output.contains(/limit: +-/))
            let wrong = try await database.worker("endpoints", "set", "acme", "--concurrency=-1")
            #expect(
                wrong.errors.contains("the endpoint 'acme' has concurrency -1, which is not 1 to 1000000"),
                "\(wrong)"
            )

            let disabled = try await database.worker("endpoints", "disable", "acme", "--reason", "unpaid")
            #expect(disabled.output == "The endpoint 'acme' is disabled.\n")
            let troubled = try await database.worker("endpoints", "list", "--troubled").output
            #expect(troubled.contains("acme") && troubled.contains("unpaid"))
            #expect(
                try await database.worker("endpoints", "enable", "acme").output == "The endpoint 'acme' is enabled.\n"
            )
            let again = try await database.worker("endpoints", "enable", "acme")
            #expect(again.status == 1 && again.errors.contains("the endpoint 'acme' is not disabled"))
            for arguments in [["show", "acme"], ["show", "acme", "--json"], ["list"], ["list", "--json"]] {
                let text = try await WorkerBinary.run(
                    ["endpoints"] + arguments,
                    environment: ["DATABASE_URL": database.url]
                )
                #expect(!text.output.contains("hidden") && !text.output.contains("whsec_"), "\(text.output)")
            }
            let audit = try await database.text("select string_agg(to_jsonb(a)::text, ' ') from breakwater.audit a")
            #expect(!audit.contains("hidden") && !audit.contains("whsec_"))

            #expect(
                try await database.worker("endpoints", "remove", "acme").output == "The endpoint 'acme' is removed.\n"
            )
            for command in ["show", "enable", "remove", "test"] {
                let answer = try await database.worker("endpoints", command, "acme")
                #expect(answer.status == 1 && answer.errors.contains("there is no endpoint 'acme'"), "\(answer.errors)")
            }
        }
    }

    @Test(
        "refuse what cannot be meant, with one message",
        arguments: [
            (["set", "acme"], 64, "there is no endpoint 'acme', and a new one needs a url"),
            (["set", "acme", "--url", "ftp://a/"], 64, "is not one that requests can be sent to"),
            (["set", "acme", "--url", "http://u:p@a/"], 64, "is not one that requests can be sent to"),
            (["set", "acme", "--url", "http://a/", "--secret", "x"], 64, "is not a Standard Webhooks key"),
            (
                ["set", "acme", "--url", "http://a/", "--header", "Host: b"], 64,
                "'Host' of the endpoint 'acme' is set by the worker"
            ),
            (["set", "acme", "--header", "novalue"], 64, "--header has no name and value"),
            (["set", "acme", "--new-secret", "--no-secrets"], 64, "exclude each other"),
            (
                ["set", "acme", "--url", "http://a/", "--secret", "-"], 64,
                "standard input has no secret; for none, give --no-secrets."
            ),
            (["redeliver", "acme"], 64, "Say which: --since 2d, or --job"),
            (["redeliver", "acme", "--since", "1d"], 1, "there is no endpoint 'acme'"),
            (["disable", "acme"], 64, "--reason"),
            (["list", "--limit", "0"], 64, "--limit 0 is not allowed"),
        ] as [([String], Int32, String)]
    )
    func refusals(arguments: [String], status: Int32, message: String) async throws {
        try await withTestDatabase { database in
            let answer = try await WorkerBinary.run(
                ["endpoints"] + arguments,
                environment: ["DATABASE_URL": database.url]
            )
            #expect(answer.status == status, "\(answer.errors)")
            #expect(answer.errors.contains(message), "\(answer.errors)")
        }
    }

    private let register = """
        select breakwater.register_endpoint_kinds('[{"kind": "hook", "path": ["to"], "when_disabled": "hold"}]')
        """

    @Test("no secret on standard input changes nothing")
    func noSecret() async throws {
        try await withTestDatabase { database in
            _ = try await database.worker("endpoints", "set", "acme", "--url", "https://a.example/", "--secret", old)
            for input in ["", "\n\n"] {
                let refused = try await database.worker("endpoints", "set", "acme", "--secret", "-", input: input)
                #expect(refused.status == 64, "\(refused.errors)")
            }
            #expect(try await database.texts("select unnest(secrets) from breakwater.endpoint") == [old])
        }
    }

    @Test("redelivering goes on beyond letters that cannot be put back, and puts none back that died again meanwhile")
    func portions() async throws {
        try await withTestDatabase { database in
            _ = try await database.worker("endpoints", "set", "acme", "--url", "https://a.example/")
            try await database.query(register)
            try await database.query(
                "insert into breakwater.job (kind, payload, unique_key) values ('hook', '{\"to\": \"acme\"}', 'taken')"
            )
            // This is more than one portion. The oldest two cannot be put back.
            try await database.query(
                """
                insert into breakwater.dead_letter
                       (id, queue, kind, priority, payload, reason, attempt, unique_key, enqueued_at, died_at)
                select 5000000 + i, 'default', 'hook', 5, '{"to": "acme"}',
                       case when i = 1 then 'unreadable' else 'exhausted' end, 3, case when i = 2 then 'taken' end,
                       now(), now() - interval '1 minute' + i * interval '1 millisecond'
                  from generate_series(1, 1202) i
                """
            )
            // As if the endpoint refused each delivery at once.
            try await database.query(
                """
                create function die() returns trigger language plpgsql as $$
                begin
                    insert into breakwater.dead_letter
                           (id, queue, kind, priority, payload, reason, attempt, enqueued_at, died_at)
                    select id, queue, kind, priority, payload, 'exhausted', 1, enqueued_at, clock_timestamp()
                      from breakwater.job where unique_key is null;
                    delete from breakwater.job where unique_key is null;
                    return null;
                end
                $$
                """
            )
            try await database.query(
                "create trigger die after insert on breakwater.job for each statement execute function die()"
            )
            let all = try await database.worker("endpoints", "redeliver", "acme", "--since", "1h", "--limit", "5000")
            #expect(all.output == "1200 jobs are sent to 'acme' again.\n", "\(all.errors)")
            let portions = try await database.numbers(
                "select (details ->> 'count')::bigint from breakwater.audit where action = 'dead_letter.redrive' order by id"
            )
            #expect(portions == [1000, 200])
        }
    }

    @Test("a test that no worker can run leaves no job behind")
    func testWithoutWorker() async throws {
        try await withTestDatabase { database in
            _ = try await database.worker("endpoints", "set", "acme", "--url", "https://a.example/")
            try await database.query(register)
            try await database.query(
                "insert into breakwater.circuit (kind, key, key_path) values ('hook', 'acme', '{to}')"
            )
            try await database.query("select breakwater.open_circuit('hook', 'mine', key => 'acme')")
            let test = try await database.worker("endpoints", "test", "acme")
            #expect(test.status == 64 && test.output == "", "\(test.output)\(test.errors)")
            #expect(test.errors.contains("no worker that runs handles the kind 'hook'"), "\(test.errors)")
            #expect(try await database.number("select count(*) from breakwater.job") == 0)
            #expect(try await database.number("select count(*) from breakwater.dead_letter") == 0)
        }
    }

    @Test("a worker delivers to them, a test says how it went, and dead letters are redelivered")
    func delivery() async throws {
        try await withTestDatabase { database in
            let receiver = try await Receiver.start()
            defer { receiver.stop() }
            let configuration = """
                log_format: json
                poll_interval: 100ms
                handlers:
                  hook:
                    http: { endpoint: $.to, allow: [127.0.0.1], when_disabled: dead_letter }
                """
            _ = try await database.worker("endpoints", "set", "acme", "--url", receiver.url + "/ok")
            _ = try await database.worker("endpoints", "set", "broken", "--url", receiver.url + "/500")
            let ending = try await database.running(configuration) { _ in
                try await waitUntil("the kind is registered") {
                    try await database.number("select count(*) from breakwater.endpoint_kind") == 1
                }
                let test = try await database.worker("endpoints", "test", "acme")
                #expect(test.output == "The endpoint 'acme' accepted the message.\n", "\(test.errors)")
                let failed = try await database.worker("endpoints", "test", "broken", "--payload", #"{"a": 1}"#)
                #expect(failed.status == 1)
                #expect(
                    failed.output.contains("did not accept the message: http.500: "),
                    "\(failed.output)\(failed.errors)"
                )
                #expect(try await database.number("select count(*) from breakwater.dead_letter") == 0)
                #expect(try await database.number("select count(*) from breakwater.job") == 0)

                _ = try await database.worker("endpoints", "disable", "acme", "--reason", "moving")
                let refused = try await database.worker("endpoints", "test", "acme")
                #expect(refused.status == 1 && refused.errors.contains("is disabled: moving"))
                try await waitUntil("jobs become dead letters") {
                    try await database.query(
                        "insert into breakwater.job (kind, payload) values ('hook', '{\"to\": \"acme\"}')"
                    )
                    return try await database.number("select count(*) from breakwater.dead_letter") > 1
                }
                _ = try await database.worker("endpoints", "enable", "acme")
                let dead = try await database.number("select count(*) from breakwater.dead_letter")
                let one = try await database.number("select min(id) from breakwater.dead_letter")
                _ = try await database.worker("endpoints", "set", "other", "--url", "https://other.example/")
                let foreign = try await database.worker("endpoints", "redeliver", "other", "--job", "\(one)")
                #expect(foreign.status == 1)
                #expect(foreign.errors.contains("is not one of the endpoint 'other'"), "\(foreign.errors)")
                let single = try await database.worker("endpoints", "redeliver", "acme", "--job", "\(one)")
                #expect(single.output == "1 job is sent to 'acme' again.\n", "\(single.errors)")
                try await waitUntil("nothing waits") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
                let all: [String: Any] = try await database.worker(
                    "endpoints",
                    "redeliver",
                    "acme",
                    "--since",
                    "1h",
                    "--json"
                ).json()
                #expect((all["redelivered"] as? Int ?? 0) >= dead - 1)
            }
            #expect(ending.status == 0, "\(ending.errors)")
        }
    }
}

/// An HTTP server that answers 500 to the path `/500`, and 200 to any other.
private final class Receiver: Sendable {
    let url: String
    private let child: Child

    private init(url: String, child: Child) {
        self.url = url
        self.child = child
    }

    static func start() async throws -> Receiver {
        let script = """
            import http.server, sys
            class Handler(http.server.BaseHTTPRequestHandler):
                def do_POST(self):
                    self.rfile.read(int(self.headers["Content-Length"]))
                    self.send_response(500 if self.path == "/500" else 200)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                def log_message(self, *_):
                    pass
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            with open(sys.argv[1], "w") as file:
                print(server.server_port, file=file)
            server.serve_forever()
            """
        let file = FileManager.default.temporaryDirectory.appending(path: "breakwater-port-\(UUID())").path
        defer { try? FileManager.default.removeItem(atPath: file) }
        let child = try Child("/usr/bin/env", ["python3", "-c", script, file], output: .null)
        var port = ""
        try await waitUntil("the receiver listens") {
            port = (try? String(contentsOfFile: file, encoding: .utf8)) ?? ""
            return port.hasSuffix("\n")
        }
        return Receiver(url: "http://127.0.0.1:\(port.dropLast())", child: child)
    }

    func stop() { child.signal(SIGTERM) }
}
