import Breakwater
import Foundation
import Logging

/// Writes each e-mail as a file into an outbox directory, where a mail transfer agent would pick it up.
///
/// Enqueue one with
///
/// ```sh
/// ExampleWorker enqueue email.send '{"to": "ada@example.org", "subject": "Hello", "body": "How are you?"}'
/// ```
struct SendEmail: JobHandler {
    /// The type that the job's JSON payload is decoded to. A job whose payload does not decode becomes a dead letter at
    /// once, with an error that names the field.
    struct Payload: Codable, Sendable {
        /// The recipient's address.
        var to: String
        var subject: String
        /// The body as plain text. Defaults to an empty body.
        var body: String?
    }

    /// The directory of the files.
    var outbox: URL

    func handle(_ payload: Payload, context: JobContext) async throws -> JobOutcome {
        guard isAddress(payload.to) else {
            // No retry can succeed, so the job is dead-lettered at once. The circuit does not count this.
            return .discarded(JobFailure("email.bad_address", "'\(payload.to)' is not an address"))
        }
        var isDirectory: ObjCBool = false
        let isThere = FileManager.default.fileExists(atPath: outbox.path(), isDirectory: &isDirectory)
        guard isThere, isDirectory.boolValue else {
            // The job's dependency is unavailable. The circuit counts this, and opens if it continues.
            return .unavailable(JobFailure("email.no_outbox", "there is no directory \(outbox.path())"))
        }
        // A job may run more than once, so the file's name is the same for every run, and a repeated run replaces the
        // file.
        let file = outbox.appending(path: "\(context.job.idempotencyKey).eml")
        // An error thrown here is a failure, and the job is retried with backoff.
        try message(payload, id: context.job.idempotencyKey).write(to: file, atomically: true, encoding: .utf8)
        context.logger.info("e-mail written", metadata: ["file": "\(file.lastPathComponent)"])
        return .succeeded(result: "{\"file\": \"\(file.lastPathComponent)\"}")
    }

    /// Whether the text has one @ with characters on both sides, and none that could end the header.
    private func isAddress(_ text: String) -> Bool {
        text.wholeMatch(of: /[^@\s<>,;]+@[^@\s<>,;]+/) != nil
    }

    private func message(_ payload: Payload, id: String) -> String {
        // A line feed in a subject would begin another header.
        let subject = payload.subject.split(whereSeparator: \.isNewline).joined(separator: " ")
        return """
            Message-ID: <\(id)@example.org>
            From: worker@example.org
            To: \(payload.to)
            Subject: \(subject)
            MIME-Version: 1.0
            Content-Type: text/plain; charset=utf-8

            \(payload.body ?? "")

            """
    }
}
