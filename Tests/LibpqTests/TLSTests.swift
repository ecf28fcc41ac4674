import Foundation
import Libpq
import Testing

@Suite(
    "TLS with sslmode=verify-full",
    .enabled(if: PrivateServer.isPossible, "BREAKWATER_PG_BIN does not name a Postgres that speaks TLS")
)
struct TLSTests {
    private func options(
        _ server: PrivateServer,
        host: String = "db.test",
        authority: String? = nil,
        port: Int? = nil
    ) -> ConnectionOptions {
        // The host name is verified, and the address needs no resolver.
        let address = "host=\(host) hostaddr=127.0.0.1 port=\(port ?? server.port) user=postgres dbname=postgres"
        return ConnectionOptions("\(address) sslmode=verify-full sslrootcert='\(authority ?? server.authority)'")
    }

    private func refusal(_ options: ConnectionOptions) async throws -> String {
        let error = try await failure {
            await (try Connection.connect(options, logger: TestServer.silent)).close()
        }
        #expect(error.code == .connectionFailed)
        #expect(!error.message.contains("\n"), "\(error.message)")
        return error.message
    }

    @Test func `the right authority and name connect, and the session is encrypted`() async throws {
        try await PrivateServer.with { server in
            try await withConnection(options(server)) { connection in
                let row = try await connection.query(
                    "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()"
                )[0]
                #expect(try row[0].bool())
                #expect(try row[1].string().hasPrefix("TLSv1."))
            }
        }
    }

    @Test func `another name, an unknown authority, and a server without TLS are refused, each with one message`()
        async throws
    {
        try await PrivateServer.with { server in
            let name = try await refusal(options(server, host: "elsewhere.test"))
            #expect(name.contains("server certificate for \"db.test\" does not match host name \"elsewhere.test\""))

            let authority = try await refusal(options(server, authority: server.stranger))
            #expect(authority.contains("certificate verify failed"))

            let file = try await refusal(options(server, authority: "/nowhere/authority.pem"))
            #expect(file.contains("\"/nowhere/authority.pem\" does not exist"))

            let parts = try #require(URLComponents(string: TestServer.conninfo ?? "postgresql://h:1"))
            if TestServer.isThere {
                let plain = try await refusal(options(server, port: parts.port))
                #expect(plain.contains("server does not support SSL, but SSL was required"))
            }
        }
    }
}
