import BreakwaterAdmin
import ArgumentParser

/// The jobs that a change is for, by their ids.
struct JobSelection: ParsableArguments {
    @Argument(help: "Their ids.")
    var ids: [Int64]

    @OptionGroup var remark: Remark
    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    /// Changes each and prints which were changed.
    ///
    /// - Parameters:
    ///   - done: What was done, in the words of the message.
    ///   - each: Changes one; false if it cannot.
    ///   - refusal: Why it cannot, for a job that is known.
    /// - Throws: ``CommandFailure`` when one cannot be changed, after all others were.
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
