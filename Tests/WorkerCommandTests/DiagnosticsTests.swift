import Foundation
import TestPrograms
import Testing

private let swiftCompiler = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
    .map { "\($0)/swiftc" }.first { FileManager.default.isExecutableFile(atPath: $0) }

/// Compiles wrong programs, and reads what the compiler says to their authors.
@Suite("The compiler", .enabled(if: swiftCompiler != nil, "there is no swiftc in PATH"))
struct DiagnosticsTests {

    /// What the compiler says to a program.
    private func diagnostics(of program: String) async throws -> String {
        let compiler = try #require(swiftCompiler)
        let folder = FileManager.default.temporaryDirectory.appending(path: "diagnostics-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let source = folder.appending(path: "main.swift")
        try ("import Breakwater\n" + program).write(to: source, atomically: true, encoding: .utf8)
        let modules = WorkerBinary.path.deletingLastPathComponent().appending(path: "Modules")
        let output = folder.appending(path: "out").path()
        let child = try Child(
            compiler,
            [
                "-typecheck", "-swift-version", "6", "-module-cache-path", folder.appending(path: "cache").path(),
                "-I", modules.path(), "-I", "Sources/CLibpq", "-I", "/usr/include/postgresql", source.path(),
            ],
            directory: URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .deletingLastPathComponent().path(),
            output: .file(output),
            errors: .file(output + ".errors")
        )
        _ = await child.end()
        return try String(contentsOfFile: output, encoding: .utf8)
            + String(contentsOfFile: output + ".errors", encoding: .utf8)
    }

    @Test("accepts a kind that a producer and a handler share")
    func right() async throws {
        let said = try await diagnostics(
            of: """
                struct SendEmail: JobHandler {
                    struct Payload: Codable { var to: String }
                    struct Receipt: Encodable { var id: Int }
                    func handle(_ payload: Payload, context: JobContext) async throws -> JobOutcome {
                        try .succeeded(Receipt(id: 3))
                    }
                }
                extension JobKind where Payload == SendEmail.Payload { static var sendEmail: Self { "email.send" } }
                let logger = Logger(label: "app")
                let client = try BreakwaterClient("postgresql:///app", logger: logger)
                let registrations = [
                    HandlerRegistration(kind: .sendEmail, handler: SendEmail()),
                    HandlerRegistration(kind: .sendEmail) { payload, context in .succeeded(result: payload.to) },
                    HandlerRegistration(kind: "literal", handler: SendEmail()),
                ]
                func enqueue() async throws(any Error) {
                    do {
                        try await client.withTransaction { try await $0.enqueue(.sendEmail, .init(to: "a@b.c")) }
                    } catch let error as PostgresError where error.code == .connectionLost {}
                    _ = ServiceGroup(services: [client], logger: logger)
                }
                """
        )
        #expect(said == "")
    }

    @Test(
        "points at the fault in a handler, a kind or a payload",
        arguments: [
            (
                "struct H: JobHandler { func handle(_ payload: Payload, context: JobContext) async throws -> JobOutcome { .succeeded() } }",
                "protocol requires nested type 'Payload'"
            ),
            (
                """
                struct H: JobHandler {
                    struct Payload { var to: String }
                    func handle(_ payload: Payload, context: JobContext) async throws -> JobOutcome { .succeeded() }
                }
                """,
                "possibly intended match 'H.Payload' does not conform to 'Decodable'"
            ),
            (
                """
                struct H: JobHandler {
                    struct Payload: Codable { var to: String }
                    func handle(_ payload: Payload) async throws -> JobOutcome { .succeeded() }
                }
                """,
                "requires function 'handle(_:context:)' with type '(H.Payload, JobContext) async throws -> JobOutcome'"
            ),
            (
                """
                struct H: JobHandler {
                    struct Payload: Codable { var to: String }
                    func handle(_ payload: Payload, context: JobContext) async throws -> String { "done" }
                }
                """,
                "candidate has non-matching type '(H.Payload, JobContext) async throws -> String'"
            ),
            (
                """
                struct H: JobHandler {
                    func handle(_ payload: Int, context: JobContext) async throws -> JobOutcome { .succeeded() }
                }
                let registration = HandlerRegistration(kind: JobKind<String>("k"), handler: H())
                """,
                "cannot convert value of type 'JobKind<String>' to expected argument type 'JobKind<Int>'"
            ),
            (
                "func f(_ client: BreakwaterClient) async throws { try await client.enqueue(JobKind<Int>(\"k\"), \"text\") }",
                "cannot convert value of type 'String' to expected argument type 'Int'"
            ),
        ]
    )
    func wrong(program: String, message: String) async throws {
        let said = try await diagnostics(of: program)
        #expect(said.contains(message), "\(said)")
    }
}
