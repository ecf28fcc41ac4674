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
    /// What the job's JSON payload decodes to. A payload that does not decode becomes a dead letter at once, with an
    /// error that names the field.
    struct Payload: Codable, Sendable {
        /// The address it goes to.
        var to: String
        var subject: String
        /// Plain text. Defaults to nothing.
        var body: String?
    }

    /// Where the files go.
    var outbox: URL

    func handle(_ payload: Payload, context: JobContext) async throws -> JobOutcome {
        guard isAddress(payload.to) else {
            // No retry can mend it: to the dead letters at once. The circuit does not count it.
            return .discarded(JobFailure("email.bad_address", "'\(payload.to)' is not an address"))
        }
        var isDirectory: ObjCBool = false
        let isThere = FileManager.default.fileExists(atPath: outbox.path(), isDirectory: &isDirectory)
        guard isThere, isDirectory.boolValue else {
            // What the job depends on is down. The circuit counts it, and opens when this goes on.
            return .unavailable(JobFailure("email.no_outbox", "there is no directory \(outbox.path())"))
        }
        // A job may run more than once, so the file is named after what stays the same: a repeat replaces it.
        let file = outbox.appending(path: "\(context.job.idempotencyKey).eml")
        // An error thrown from here is a failure: the job is retried with backoff.
        try message(payload, id: context.job.idempotencyKey).write(to: file, atomically: true, encoding: .utf8)
        context.logger.info("e-mail written", metadata: ["file": "\(file.lastPathComponent)"])
        return .succeeded(result: "{\"file\": \"\(file.lastPathComponent)\"}")
    }

    /// One @ with something on both sides, and nothing that would break out of its header.
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
