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
    ///   - refusal: The reason why a job that exists cannot be changed.
    /// - Throws: ``CommandFailure`` when a job cannot be changed, after all others were changed.
    func apply(
        done: String,
        each: (AdminDatabase, Int64) async throws -> Bool,
        refusal: (JobStory) -> String
    ) async throws {
        var changed: [Int64] = []
        var refused: [String] = []
        try await AdminDatabase.with(database.database) { admin in
            for id in ids {
                if try await each(admin, id) {
                    changed.append(id)
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
            for id in changed { Terminal.write("Job \(id) is \(done).") }
        }
        if !refused.isEmpty { throw CommandFailure(.refused, refused.joined(separator: "\n")) }
    }
}
