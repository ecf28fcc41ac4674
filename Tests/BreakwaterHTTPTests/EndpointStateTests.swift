import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater
@testable import BreakwaterHTTP

/// What the database records of endpoints, and what it does to their circuits.
@Suite("The state of endpoints", .enabled(if: TestDatabase.isAvailable, "BREAKWATER_TEST_DATABASE is not set"))
struct EndpointStateTests {
    private static let registered =
        "select count(*) from breakwater.endpoint_kind join breakwater.handler using (kind)"

    private func record(_ call: String, _ database: TestDatabase) async throws {
        try await database.query("select breakwater.record_endpoint_calls('[{\"kind\": \"hook\", \(call)}]')")
    }

    @Test("a success ends the failing if it came after it began, and is not written for a healthy endpoint")
    func successes() async throws {
        try await withTestDatabase { database in
            try await database.setEndpoint("acme", "https://acme.example/")
            func failing() async throws -> Int {
                try await database.number("select count(*) from breakwater.endpoint where failing_since is not null")
            }
            let version = "select xmin::text || ctid::text from breakwater.endpoint"
            let healthy = try await database.text(version)
            try await record(#""name": "acme", "succeeded_ago": 1"#, database)
            #expect(try await database.text(version) == healthy)
            try await record(#""name": "acme", "failure": "no", "failed_ago": 20"#, database)
            try await record(#""name": "acme", "succeeded_ago": 30"#, database)
            #expect(try await failing() == 1)
            try await record(#""name": "acme", "succeeded_ago": 10"#, database)
            #expect(try await failing() == 0)
            try await record(#""name": "acme", "succeeded_ago": 10, "failure": "no", "failed_ago": 5"#, database)
            #expect(try await failing() == 1)
        }
    }

    private func register(_ whenDisabled: String) -> String {
        "select breakwater.register_endpoint_kinds("
            + "'[{\"kind\": \"hook\", \"path\": [\"to\"], \"when_disabled\": \"\(whenDisabled)\"}]')"
    }

    /// The override of each circuit of an endpoint.
    private func overrides(_ database: TestDatabase) async throws -> [String] {
        try await database.texts(
            "select key || ' ' || coalesce(override, state) from breakwater.circuit where key <> '' order by key"
        )
    }

    @Test(
        "no circuit is held for an endpoint that is enabled while a worker registers; enabling again ends such a hold"
    )
    func registerBesideEnable() async throws {
        try await withTestDatabase { database in
            try await database.setEndpoint("first", "https://first.example/")
            try await database.query("select breakwater.disable_endpoint('first', 'x')")
            try await database.withEndpoints {
                // Then the directory does not register the kind again.
                try await waitUntil("the circuit of the first is held") {
                    try await overrides(database) == ["first open"]
                }
                try await database.query("delete from breakwater.endpoint")
                try await database.query("delete from breakwater.circuit where key <> ''")
                try await database.setEndpoint("acme", "https://acme.example/")
                // As if it had been disabled before any worker handled the kind.
                try await database.query(
                    "update breakwater.endpoint set disabled_at = now(), disabled_by = 'ann', disabled_reason = 'x'"
                )
                let other = try await database.connect()
                _ = try await other.query("begin")
                _ = try await other.query("select breakwater.enable_endpoint('acme')")
                let second = try await database.connect()
                async let registered = second.query(register("hold"))
                try await waitUntil("it waits for the endpoint's row") {
                    try await database.number("select count(*) from pg_locks where not granted") > 0
                }
                _ = try await other.query("commit")
                _ = try await registered
                #expect(try await overrides(database).filter { $0.hasSuffix("open") } == [])

                try await database.query("select breakwater.disable_endpoint('acme', 'x')")
                #expect(try await overrides(database) == ["acme open"])
                try await database.query("update breakwater.endpoint set disabled_at = null")
                #expect(try await database.text("select breakwater.enable_endpoint('acme')::text") == "true")
                #expect(try await overrides(database) == ["acme closed"])
                #expect(try await database.text("select breakwater.enable_endpoint('acme')::text") == "false")
                await other.close()
                await second.close()
            }
        }
    }

    @Test("an operator's overrides stay when an endpoint is disabled", arguments: ["hold", "dead_letter"])
    func operatorsOverrides(whenDisabled: String) async throws {
        try await withTestDatabase { database in
            var rule = EndpointRule()
            rule.whenDisabled = whenDisabled == "hold" ? .hold : .deadLetter
            try await database.withEndpoints(rule: rule) {
                try await waitUntil("the kind is registered") {
                    try await database.number(Self.registered) == 1
                }
                let overrides = ["open", "close", "disable"]
                for name in overrides {
                    try await database.setEndpoint(name, "https://acme.example/")
                    try await database.query(
                        "insert into breakwater.circuit (kind, key, key_path) values ('hook', $1, '{to}')",
                        [.text(name)]
                    )
                    try await database.query("select breakwater.\(name)_circuit('hook', 'mine', key => '\(name)')")
                }
                for name in overrides {
                    try await database.query("select breakwater.disable_endpoint($1, 'x')", [.text(name)])
                }
                try await database.query(register(whenDisabled))
                #expect(try await self.overrides(database) == ["close closed", "disable disabled", "open open"])
            }
        }
    }

    @Test("ten thousand disabled endpoints are registered in a moment, and only some of them get a circuit")
    func manyDisabled() async throws {
        try await withTestDatabase { database in
            try await database.query(
                "insert into breakwater.endpoint (name, url, disabled_at, disabled_by, disabled_reason) "
                    + "select 'e' || n, 'https://e.example/', now(), 'ann', 'x' from generate_series(1, 10000) n"
            )
            try await database.withEndpoints {
                try await waitUntil("circuits are held") { try await overrides(database).count == 900 }
                #expect(try await overrides(database).allSatisfy { $0.hasSuffix(" open") })
                // Once more from the beginning, and once with nothing left to do.
                try await database.query("delete from breakwater.circuit where key <> ''")
                for _ in 0..<2 {
                    let start = ContinuousClock.now
                    try await database.query(register("hold"))
                    #expect(ContinuousClock.now - start < .seconds(20))
                    #expect(try await overrides(database).filter { $0.hasSuffix(" open") }.count == 900)
                }
            }
        }
    }

    @Test("stored headers are not sent to another place: a url that leads there needs headers too")
    func headersOfAnotherPlace() async throws {
        try await withTestDatabase { database in
            try await database.setEndpoint("acme", "https://acme.example/in", headers: #"{"X-Key": "secret"}"#)
            for url in [
                "https://evil.example/in", "http://acme.example/in", "https://acme.example:444/",
                "https://acme.example.evil/",
            ] {
                let error = await #expect(throws: PostgresError.self) {
                    try await database.query("select breakwater.set_endpoint('acme', $1)", [.text(url)])
                }
                #expect(error?.message.contains("its headers X-Key would be sent there") == true, "\(error as Any)")
                #expect(error?.hint?.contains("'{}' for none") == true)
            }
            for change in [
                "'https://ACME.example:443/other?a=1'", "null",
                "'https://new.example/', headers => '{\"X-Key\": \"2\"}'",
                "'https://third.example/', headers => '{}'", "'https://fourth.example/'",
            ] {
                try await database.query("select breakwater.set_endpoint('acme', \(change))")
            }
            #expect(try await database.text("select url from breakwater.endpoint") == "https://fourth.example/")
        }
    }

    @Test("a message about an endpoint that was due for an hour is not sent, and is deleted")
    func oldNotices() async throws {
        try await withTestDatabase { database in
            try await database.query(
                "insert into breakwater.endpoint_notice (endpoint, message, next_try) values "
                    + "('old', '{}', now() - interval '61 minutes'), ('new', '{}', now() - interval '59 minutes')"
            )
            #expect(try await database.text("select endpoint from breakwater.next_endpoint_notice()") == "new")
            #expect(
                try await database.text("select coalesce(endpoint, 'none') from breakwater.next_endpoint_notice()")
                    == "none"
            )
            try await database.query("select breakwater.do_chore('prune_history')")
            #expect(try await database.texts("select endpoint from breakwater.endpoint_notice") == ["new"])
        }
    }
}
