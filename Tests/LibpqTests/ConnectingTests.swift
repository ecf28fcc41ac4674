import Foundation
import Testing

@testable import Libpq

@Suite("Connecting", .enabled(if: TestServer.isThere, TestServer.reason))
struct ConnectingTests {
    /// Returns the test server's URL with another host list, port, database or user.
    private func url(hosts: String? = nil, database: String? = nil, user: String = "postgres") throws -> String {
        let parts = try #require(URLComponents(string: TestServer.conninfo ?? ""))
        return "postgresql://\(user)@\(hosts ?? here(parts))/\(database ?? "postgres")"
    }

    private func here(_ parts: URLComponents) -> String { "\(parts.host ?? "127.0.0.1"):\(parts.port ?? 5_432)" }

    private func here() throws -> String { here(try #require(URLComponents(string: TestServer.conninfo ?? ""))) }

    private func connecting(_ options: ConnectionOptions) async throws -> PostgresError {
        let start = ContinuousClock.now
        let error = try await failure {
            await (try Connection.connect(options, logger: TestServer.silent)).close()
        }
        // The other suites run at the same time, so this leaves room for a busy machine.
        #expect(ContinuousClock.now - start < options.connectTimeout + .seconds(300))
        return error
    }

    @Test func `a connection knows its session`() async throws {
        try await withConnection(TestServer.direct) { connection in
            let row = try await connection.query(
                """
                select pg_backend_pid(), current_setting('server_version_num')::int4,
                  current_setting('application_name'), current_setting('client_encoding')
                """
            )[0]
            #expect(try row[0].int32() == connection.backendPID)
            #expect(!connection.isPooled)
            #expect(try row[1].int() == connection.serverVersion)
            #expect(try row[2].string() == "libpq-tests")
            #expect(try row[3].string() == "UTF8")
        }
    }

    @Test func `a conninfo's application_name wins over the given one`() async throws {
        let options = ConnectionOptions(try url() + "?application_name=from-url", applicationName: "given")
        try await withConnection(options) { connection async throws in
            #expect(try await connection.query("show application_name")[0][0].string() == "from-url")
        }
    }

    @Test func `a wrong port is refused with the address`() async throws {
        let error = try await connecting(ConnectionOptions("postgresql://postgres@127.0.0.1:1/postgres"))
        #expect(error.code == .connectionFailed)
        #expect(error.message.contains("port 1 failed: Connection refused"))
    }

    @Test func `an unknown database is named`() async throws {
        let error = try await connecting(ConnectionOptions(try url(database: "nowhere")))
        #expect(error.code == .connectionFailed)
        #expect(error.message.contains("database \"nowhere\" does not exist"))
    }

    @Test func `a host that does not resolve is named`() async throws {
        let error = try await connecting(ConnectionOptions("postgresql://no-such-host.invalid/postgres"))
        #expect(error.code == .connectionFailed)
        #expect(error.message.contains("no-such-host.invalid"))
    }

    @Test(arguments: [
        "postgresql://u:hunter2@[::1/db", "host=h password=hun ter2", "postgresql://u:hunter2@h:port:x/db",
        "postgresql://u:hun?ter2@h/db", "nonsense", "postgresql://u:p@hunter2@h/db", "postgresql://u:hunter2%zz@h/db",
        "host=127.0.0.1 port=1 password=hunter2", "postgresql://u:hun/ter2@h/db", "postgresql://u:7/hunter2@h/db",
    ])
    func `a bad conninfo is refused without telling the password`(_ conninfo: String) async throws {
        let options = ConnectionOptions(conninfo, connectTimeout: .seconds(5))
        let error = try await connecting(options)
        #expect(error.code == .connectionFailed)
        #expect(!"\(error)".contains("ter2"))
        #expect(!"\(options)".contains("ter2"))
    }

    @Test func `options describe themselves without the password`() {
        let options = ConnectionOptions("postgresql://me:secret@db.example:6000/jobs", keywords: ["user": "you"])
        #expect("\(options)" == "host=db.example port=6000 dbname=jobs user=you")
    }

    @Test func `a server that never answers fails at the timeout`() async throws {
        let server = try SilentServer()
        let options = ConnectionOptions(
            "postgresql://postgres@127.0.0.1:\(server.port)/postgres",
            connectTimeout: .milliseconds(300)
        )
        let error = try await connecting(options)
        #expect(error.code == .connectionFailed)
        #expect(error.message.contains("0.3 seconds"))
        #expect(error.message.contains("port \(server.port)"))
    }

    @Test func `connecting can be cancelled`() async throws {
        let server = try SilentServer()
        let task = Task {
            await
                (try Connection.connect(
                    ConnectionOptions("postgresql://postgres@127.0.0.1:\(server.port)/postgres"),
                    logger: TestServer.silent
                )).close()
        }
        task.cancel()
        #expect(try await failure { try await task.value }.code == .cancelled)
    }

    @Test func `the next host is tried when the first refuses`() async throws {
        let options = ConnectionOptions(
            try url(hosts: "127.0.0.1:1,\(try here())") + "?target_session_attrs=read-write"
        )
        try await withConnection(options) { connection async throws in
            #expect(try await connection.query("select 1")[0][0].int() == 1)
        }
    }

    @Test func `the next host is tried when the first never answers`() async throws {
        let (one, two) = (try SilentServer(), try SilentServer())
        let hosts = "127.0.0.1:\(one.port),127.0.0.1:\(two.port),\(try here())"
        let options = ConnectionOptions(try url(hosts: hosts), connectTimeout: .seconds(15))
        try await withConnection(options) { connection async throws in
            #expect(try await connection.query("select 1")[0][0].int() == 1)
        }
    }

    @Test(arguments: [0, 1, 4096]) func `the next host is tried when the first closes the connection`(bytes: Int)
        async throws
    {
        let (one, two) = (try SilentServer(closesAfter: bytes), try SilentServer(closesAfter: bytes))
        let hosts = "127.0.0.1:\(one.port),127.0.0.1:1,127.0.0.1:\(two.port),\(try here())"
        try await withConnection(ConnectionOptions(try url(hosts: hosts))) { connection async throws in
            #expect(try await connection.query("select 1")[0][0].int() == 1)
        }
        // If all do, the message names each once.
        let error = try await connecting(
            ConnectionOptions(try url(hosts: "127.0.0.1:\(one.port),127.0.0.1:\(two.port)"))
        )
        #expect(error.code == .connectionFailed)
        #expect(error.message.components(separatedBy: "port \(one.port)").count == 2, "\(error.message)")
        #expect(error.message.components(separatedBy: "port \(two.port)").count == 2, "\(error.message)")
    }

    @Test func `a server that refuses the login ends the search, as with libpq`() async throws {
        let error = try await connecting(
            ConnectionOptions(try url(hosts: "\(try here()),127.0.0.1:1"), keywords: ["dbname": "there_is_none"])
        )
        #expect(error.message.contains("there_is_none") && !error.message.contains("port 1 "), "\(error.message)")
    }

    @Test func `the next address of the same name is tried when the first never answers`() async throws {
        let parts = try #require(URLComponents(string: TestServer.conninfo ?? ""))
        let server = try SilentServer(host: 2, port: parts.port ?? 5_432)
        var options = ConnectionOptions(
            try url(hosts: "two.addresses.test:\(server.port)"),
            connectTimeout: .seconds(20)
        )
        options.resolve = { $0 == "two.addresses.test" ? ["127.0.0.2", "127.0.0.1"] : [] }
        try await withConnection(options) { connection async throws in
            #expect(try await connection.query("select 1")[0][0].int() == 1)
        }
    }

    @Test func `a server of the wrong kind is not taken`() async throws {
        let error = try await connecting(ConnectionOptions(try url() + "?target_session_attrs=standby"))
        #expect(error.code == .connectionFailed)
        #expect(error.message.contains("not in hot standby mode"))
    }
}
