import Foundation
import Glibc
import TestPrograms

/// A TLS server on a loopback port. It is the openssl command, which answers the first request that reaches it.
///
/// Its certificate is for 127.0.0.1 and its own authority.
struct TLSServer: Sendable {
    let port: UInt16
    /// The certificate's file.
    let certificate: String
    private let process: Child

    /// Starts a server that sends this answer, and runs the body with it.
    static func with<Result>(
        answer: String,
        _ body: (TLSServer) async throws -> Result
    ) async throws -> Result {
        let directory = FileManager.default.temporaryDirectory.appending(path: "breakwater-http-\(UUID())").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let server = try await onThread { try TLSServer(answer: answer, directory: directory) }
        defer { server.process.signal(SIGKILL) }
        return try await body(server)
    }

    private init(answer: String, directory: String) throws {
        let key = directory + "/key.pem"
        certificate = directory + "/certificate.pem"
        let generated = system(
            """
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 \
                -addext subjectAltName=IP:127.0.0.1 -keyout '\(key)' -out '\(certificate)' 2>/dev/null
            """
        )
        guard generated == 0 else { throw CocoaError(.fileWriteUnknown) }
        let (answers, lines) = (Pipe(), Pipe())
        process = try Child(
            "/usr/bin/openssl",
            ["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-cert", certificate, "-key", key],
            input: .descriptor(answers.fileHandleForReading.fileDescriptor),
            output: .descriptor(lines.fileHandleForWriting.fileDescriptor),
            errors: .null
        )
        try lines.fileHandleForWriting.close()
        let (input, output) = (answers.fileHandleForWriting, lines.fileHandleForReading)
        // The command prints "ACCEPT 127.0.0.1:12345" once it listens. It sends its standard input when a client
        // connects.
        try input.write(contentsOf: Data(answer.utf8))
        var line = ""
        while !(line.hasPrefix("ACCEPT") && line.hasSuffix("\n")) {
            guard let byte = try output.read(upToCount: 1), !byte.isEmpty else { throw CocoaError(.fileReadUnknown) }
            if line.hasSuffix("\n") { line = "" }
            line += String(decoding: byte, as: UTF8.self)
        }
        guard let port = line.split(separator: ":").last.flatMap({ UInt16($0.dropLast()) }) else {
            throw CocoaError(.fileReadUnknown)
        }
        self.port = port
    }

    /// Runs a blocking function on a thread of its own, because the tests share few threads.
    private static func onThread<Result: Sendable>(
        _ body: @escaping @Sendable () throws -> Result
    ) async throws -> Result {
        try await withCheckedThrowingContinuation { continuation in
            Thread { continuation.resume(with: .init(catching: body)) }.start()
        }
    }
}
