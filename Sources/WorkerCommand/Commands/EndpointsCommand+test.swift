import ArgumentParser
import Breakwater
import BreakwaterAdmin
import Foundation

extension EndpointsCommand {
    /// `worker endpoints test`.
    struct Test: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "test",
            abstract: "Have a worker send one message to an endpoint now, and say how it went.",
            discussion: """
                Examples:

                  worker endpoints test acme
                  worker endpoints test acme --kind webhook.deliver --payload '{"type": "ping"}'

                The message is a job like any other, so it takes the way that deliveries take, from a worker's machine. \
                It goes through an open circuit, has one attempt, and leaves no dead letter, unless its run outlasts \
                --wait. The exit status is 1 if the endpoint did not accept it.
                """
        )

        @OptionGroup var endpoint: EndpointName

        @Option(help: "The kind of job, if several kinds are sent to endpoints.")
        var kind: String?

        @Option(help: "A JSON object; the endpoint's name is added where the handler looks for it.")
        var payload = #"{"type": "test"}"#

        @Option(help: "How long to wait for the outcome. Defaults to 30s.")
        var wait: DurationArgument?

        @OptionGroup var remark: Remark
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let failure = try await AdminDatabase.with(database.database) { admin in
                guard let status = try await admin.endpoint(endpoint.name) else {
                    throw CommandFailure.noEndpoint(endpoint.name)
                }
                guard status.disabledAt == nil else {
                    throw CommandFailure(
                        .refused,
                        "the endpoint '\(endpoint.name)' is disabled: \(status.disabledReason ?? "?")\n"
                            + "Run: worker endpoints enable \(endpoint.name)"
                    )
                }
                let (kind, path) = try choose(try await admin.endpointKinds())
                var job = NewJob(kind: kind)
                job.priority = 0
                job.maxAttempts = 1
                job.payload = try payload(naming: endpoint.name, at: path)
                let last = try await admin.lastProbeResult()
                let id = try await admin.enqueue(job)
                if !status.circuits.isEmpty {
                    do {
                        _ = try await admin.runThrough(id: id, reason: remark.reason, actor: remark.who)
                    } catch {
                        // The test has failed, so its message is not to be sent later.
                        try? await remove(job: id, admin)
                        throw error
                    }
                }
                return try await outcome(ofJob: id, after: last, admin)
            }
            if output.json {
                Terminal.write(
                    .object([
                        "name": .string(endpoint.name), "accepted": .bool(failure == nil),
                        "error": .string(orNull: failure),
                    ])
                )
            } else {
                let text = failure.map { "did not accept the message: \($0)" } ?? "accepted the message."
                Terminal.write("The endpoint '\(endpoint.name)' \(text)".escapingControlCharacters)
            }
            if failure != nil { throw ExitCode(1) }
        }

        /// The kind to test, and the path of the endpoint's name in its payloads.
        private func choose(_ kinds: [(kind: String, path: [String])]) throws -> (kind: String, path: [String]) {
            let all = kinds.map(\.kind).joined(separator: ", ")
            if let kind {
                guard let found = kinds.first(where: { $0.kind == kind }) else {
                    throw CommandFailure(
                        .refused,
                        "the jobs of '\(kind)' are not sent to endpoints"
                            + (kinds.isEmpty ? "; no worker has registered such a kind." : "; those of \(all) are.")
                    )
                }
                return found
            }
            guard let only = kinds.first else {
                throw CommandFailure(
                    .refused,
                    "no worker has registered a kind with  http: { endpoint: … }; start one first."
                )
            }
            guard kinds.count == 1 else {
                throw CommandFailure(.refused, "several kinds are sent to endpoints: \(all); say which: --kind")
            }
            return only
        }

        /// The payload with the endpoint's name at a path.
        private func payload(naming name: String, at path: [String]) throws -> String {
            guard
                let given = try? JSONSerialization.jsonObject(with: Data(payload.utf8)) as? [String: Any],
                let first = path.first
            else {
                throw CommandFailure(.usage, "--payload is no JSON object; give one, such as '{\"type\": \"test\"}'.")
            }
            var object = given
            object[first] = Self.nested(name, at: path.dropFirst(), in: given[first])
            guard let data = try? JSONSerialization.data(withJSONObject: object, options: .sortedKeys) else {
                throw CommandFailure(.usage, "--payload cannot be written as JSON.")
            }
            return String(decoding: data, as: UTF8.self)
        }

        private static func nested(_ name: String, at path: ArraySlice<String>, in value: Any?) -> Any {
            guard let first = path.first else { return name }
            var object = value as? [String: Any] ?? [:]
            object[first] = nested(name, at: path.dropFirst(), in: object[first])
            return object
        }

        /// Waits for the end of the job. Returns nil if it succeeded, and otherwise the error; its dead letter is
        /// deleted.
        ///
        /// - Parameter last: The latest probe result before the job was enqueued.
        private func outcome(ofJob id: Int64, after last: Int64, _ admin: AdminDatabase) async throws -> String? {
            let limit = wait?.duration ?? .seconds(30)
            let deadline = ContinuousClock.now + limit
            while true {
                switch try await admin.story(ofJob: id) {
                case nil, .succeeded?: return nil
                case .finished(let job)?:
                    return job.hasSucceeded ? nil : job.reason
                case .died(let letter)?:
                    let runs = try await admin.failedRuns(letter.errors)
                    _ = try await admin.purge(id: id, reason: purpose, actor: remark.who)
                    return runs.last?.failure ?? letter.reason
                case .waitsOrRuns(let job)?:
                    // A probe that failed may have its attempt back, and would run again.
                    if let probe = try await admin.probeResult(ofJob: id, after: last), probe.outcome != "succeeded" {
                        try await remove(job: id, admin)
                        return [probe.name, probe.message].compactMap { $0 }.joined(separator: ": ")
                    }
                    guard ContinuousClock.now >= deadline else { break }
                    try await remove(job: id, admin)
                    return "no outcome within \(limit.text): the job \(id) is \(job.state), \(job.why)"
                }
                try await Task.sleep(for: .milliseconds(100))
            }
        }

        /// Deletes a job that waits. One that is running ends by itself.
        private func remove(job id: Int64, _ admin: AdminDatabase) async throws {
            if case .waitsOrRuns(let job)? = try await admin.story(ofJob: id), job.state == "running" { return }
            guard (try? await admin.cancel(id: id, reason: purpose, actor: remark.who)) == true else { return }
            _ = try await admin.purge(id: id, reason: purpose, actor: remark.who)
        }

        private var purpose: String { "test of the endpoint \(endpoint.name)" }
    }
}
