import BreakwaterAdmin
import ArgumentParser

/// The jobs that a command changes, by id.
struct JobSelection: ParsableArguments {
    @Argument(help: "Their ids.")
    var ids: [Int64]

    @OptionGroup var remark: Remark
    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    /// Changes each job and prints which were changed.
    ///
    /// - Parameters:
    ///   - done: A participle for the messages, such as `cancelled`.
    ///   - each: Changes one job; returns false if that is impossible.
    ///   - sentence: A sentence about a changed job, in place of "Job 1 is cancelled."; nil for that one.
    ///   - refusal: The reason why a job that exists cannot be changed.
    /// - Throws: ``CommandFailure`` when a job cannot be changed, after all others were changed.
    func apply(
        done: String,
        each: (AdminDatabase, Int64) async throws -> Bool,
        sentence: (AdminDatabase, Int64) async throws -> String? = { _, _ in nil },
        refusal: (JobStory) -> String
    ) async throws {
        var changed: [Int64] = []
        var sentences: [String] = []
        var refused: [String] = []
        try await AdminDatabase.with(database.database) { admin in
            for id in ids {
                if try await each(admin, id) {
                    changed.append(id)
                    sentences.append(try await sentence(admin, id) ?? "Job \(id) is \(done).")
                } else if let story = try await admin.story(ofJob: id) {
                    refused.append("job \(id) is not \(done): \(refusal(story))")
                } else {
                    refused.append(CommandFailure.noJob(id).message)
                }
            }
        }
        if output.json {
            Terminal.write(.object(["changed": .array(changed.map { .integer($0) })]))
        } else {
            for sentence in sentences { Terminal.write(sentence) }
        }
        if !refused.isEmpty { throw CommandFailure(.refused, refused.joined(separator: "\n")) }
    }
}
