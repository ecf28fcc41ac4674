import Breakwater
import Foundation
import Logging

/// Writes the payload of each job into a file of a directory, where another program picks it up.
struct SpoolPlugin: HandlerPlugin {
    var directory: URL
    /// The most bytes of a payload.
    var longest = 1 << 20

    func run(_ job: Job, context: JobContext) async throws -> JobOutcome {
        // A run may be cancelled before it begins.
        try Task.checkCancellation()
        guard job.payload.utf8.count <= longest else {
            return .discarded(JobFailure("spool.tooLarge", "the payload has more than \(longest) bytes"))
        }
        guard FileManager.default.fileExists(atPath: directory.path) else {
            return .unavailable(JobFailure("spool.missing", "there is no directory \(directory.path)"))
        }
        // The name is the same in each run of the job, so that a run that is repeated does no harm.
        let file = directory.appending(path: "\(job.idempotencyKey).json")
        try Data(job.payload.utf8).write(to: file, options: .atomic)
        context.logger.info("spooled", metadata: ["file": "\(file.lastPathComponent)"])
        return .succeeded(result: #"{"bytes": \#(job.payload.utf8.count)}"#)
    }
}
