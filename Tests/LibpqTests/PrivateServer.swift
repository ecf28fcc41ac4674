import Foundation
import Glibc
import TestPrograms
import Testing

/// A Postgres server that belongs to one test. Unlike the shared one, it accepts only TLS connections.
///
/// Its certificate is for the name `db.test`, signed by an authority of its own.
struct PrivateServer: Sendable {
    let port: Int
    /// The certificate of its authority, and one of another authority, as PEM files.
    let authority: String
    let stranger: String

    private static let programs = ProcessInfo.processInfo.environment["BREAKWATER_PG_BIN"] ?? ""

    /// Whether the server's programs exist and were built with TLS.
    static let isPossible: Bool = {
        guard !programs.isEmpty, let said = try? run("\(programs)/postgres --describe-config") else { return false }
        // A server built without OpenSSL has this default for ssl_ciphers.
        return !said.split(separator: "\n").contains { $0.hasPrefix("ssl_ciphers\t") && $0.contains("\tnone\t") }
    }()

    /// Starts the server, and runs the body with it.
    static func with(_ body: (PrivateServer) async throws -> Void) async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "breakwater-tls-\(UUID())").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let (server, process) = try await onThread { try start(in: directory) }
        let result: Result<Void, any Error>
        do {
            try await eventually(within: .seconds(60)) {
                let log = (try? String(contentsOfFile: "\(directory)/log", encoding: .utf8)) ?? ""
                if !process.isRunning { throw PrivateServerError(said: log) }
                return log.contains("ready to accept connections")
            }
            result = .success(try await body(server))
        } catch {
            result = .failure(error)
        }
        process.signal(SIGINT)
        await process.end()
        try result.get()
    }

    /// Runs a blocking function on a thread of its own.
    private static func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value
    {
        try await withCheckedThrowingContinuation { continuation in
            Thread { continuation.resume(with: Result { try body() }) }.start()
        }
    }

    private static func start(in directory: String) throws -> (PrivateServer, Child) {
        let port = try SilentServer().port
        // A server refuses to run as root, so it runs as the distribution's account for Postgres.
        let account = getuid() == 0 ? "setpriv --reuid=postgres --regid=postgres --init-groups" : ""
        _ = try run(
            """
            set -e
            mkdir -m 755 '\(directory)' && cd '\(directory)' && mkdir data
            key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
            for name in authority stranger; do
                openssl req -x509 $key -days 2 -subj "/CN=$name" -keyout $name.key -out $name.pem 2>&1
            done
            openssl req $key -subj /CN=db.test -keyout server.key -out server.csr 2>&1
            echo subjectAltName=DNS:db.test >names
            openssl x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 \
                -extfile names -out server.pem 2>&1
            chmod 600 server.key
            touch log
            [ "$(id -u)" != 0 ] || chown postgres data log server.key
            \(account) '\(programs)/initdb' --no-sync --auth=trust --username=postgres --pgdata=data 2>&1
            """
        )
        let script = """
            cd '\(directory)' && exec \(account) '\(programs)/postgres' -D data -p \(port) -c listen_addresses=127.0.0.1 \
                -c unix_socket_directories= -c fsync=off -c ssl=on -c ssl_cert_file='\(directory)/server.pem' \
                -c ssl_key_file='\(directory)/server.key' >log 2>&1
            """
        let process = try Child("/bin/sh", ["-c", script])
        let server = PrivateServer(
            port: port,
            authority: "\(directory)/authority.pem",
            stranger: "\(directory)/stranger.pem"
        )
        return (server, process)
    }

    /// Runs a shell script and returns its output. Throws an error with that output if the script fails.
    @discardableResult
    private static func run(_ script: String) throws -> String {
        guard let pipe = popen(script, "r") else { throw POSIXError(.EAGAIN) }
        let said = (try? FileHandle(fileDescriptor: fileno(pipe)).readToEnd()) ?? Data()
        let text = String(decoding: said, as: UTF8.self)
        guard pclose(pipe) == 0 else { throw PrivateServerError(said: text) }
        return text
    }
}

struct PrivateServerError: Error { let said: String }
