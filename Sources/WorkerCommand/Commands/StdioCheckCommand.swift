import ArgumentParser
import Breakwater
import BreakwaterStdio

/// `worker stdio-check`: checks a program against the protocol of `stdio` handlers.
struct StdioCheckCommand: ParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "stdio-check",
            abstract: "Check whether a program speaks the protocol of stdio handlers.",
            discussion: """
                Examples:

                  worker stdio-check -- python3 handler.py
                  worker stdio-check --payload '{"to": "a@b.c"}' -- node handler.js
                  worker stdio-check --slow-payload '{"sleep": 5}' -- ./handler

                It starts the command and uses it as a worker would, and a little harder. It needs no database. The \
                jobs really run, so give a payload that does no harm. The command's standard error is passed on.

                It exits with 0 if no check failed, and with 1 if one did.
                """
        )
    }

    @Option(help: ArgumentHelp("The payload of the jobs, as JSON. {} unless given.", valueName: "json"))
    var payload = "{}"

    @Option(
        help: ArgumentHelp(
            "The payload of a job that takes three seconds or more, to check heartbeats and cancellation.",
            valueName: "json"
        )
    )
    var slowPayload: String?

    @Option(help: "The kind of the jobs.")
    var kind = "check"

    @Option(help: "How many jobs the process is asked to run at once.")
    var jobs = 4

    @Option(help: ArgumentHelp("How long an answer may take. 10s unless given.", valueName: "duration"))
    var timeout: DurationArgument?

    @Option(help: ArgumentHelp("How long the hello may take. 30s unless given.", valueName: "duration"))
    var startTimeout: DurationArgument?

    @Argument(parsing: .postTerminator, help: "The program and its arguments, after --.")
    var command: [String] = []

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard !command.isEmpty else {
            throw ValidationError(
                "Give the program to check after --, such as: worker stdio-check -- python3 handler.py"
            )
        }
        for (name, text) in [("--payload", payload), ("--slow-payload", slowPayload ?? "null")] {
            guard JobResult.isStorable(text) else { throw ValidationError("\(name) '\(text)' is not a JSON value.") }
        }
        guard StdioSettings.jobsRange.contains(jobs) else { throw ValidationError("Give 1 to 1000 --jobs.") }
        guard timeout?.duration ?? .seconds(1) > .zero, startTimeout?.duration ?? .seconds(1) > .zero else {
            throw ValidationError("Give a --timeout and a --start-timeout above 0s.")
        }
    }

    func run() throws {
        var check: StdioCheck
        do {
            check = try StdioCheck(command: command)
        } catch let error as StdioPluginError {
            throw CommandFailure(.usage, error.message)
        }
        check.payload = payload
        check.slowPayload = slowPayload
        check.kind = kind
        check.jobs = jobs
        if let timeout { check.timeout = timeout.duration }
        if let startTimeout { check.startTimeout = startTimeout.duration }
        let printsJSON = output.json
        check.log = { Terminal.complain($0) }
        var findings: [StdioCheck.Finding] = []
        check.report = { finding in
            findings.append(finding)
            if !printsJSON { Terminal.writeNow(finding.line) }
        }
        let isFine = check.run()
        if printsJSON { Terminal.write(JSONValue.array(findings.map(\.json))) }
        let failed = findings.count { $0.verdict == .failed }
        guard isFine else { throw CommandFailure(.refused, "\(failed) of \(findings.count) checks failed") }
    }
}

extension StdioCheck.Finding {
    fileprivate var line: String {
        let word =
            switch verdict {
            case .passed: "ok      "
            case .failed: "FAILED  "
            case .skipped: "skipped "
            }
        return word + check + (note.isEmpty ? "" : ": \(note.escapingControlCharacters)")
    }

    fileprivate var json: JSONValue {
        let word =
            switch verdict {
            case .passed: "passed"
            case .failed: "failed"
            case .skipped: "skipped"
            }
        return .object(["check": .string(check), "verdict": .string(word), "note": .string(note)])
    }
}
