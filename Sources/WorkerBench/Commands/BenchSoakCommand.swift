import Breakwater
import ArgumentParser
import Foundation
import WorkerCommand

/// `worker bench soak`.
struct BenchSoakCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "soak",
            abstract: "Put a steady load on a database and print how it holds up.",
            discussion: """
                Adds jobs at a rate while a worker in this process runs them; some fail once and are retried, some are \
                for later. Prints throughput, latency and the sizes of tables and indexes over time as CSV, and draws \
                them. At the end it waits for the last jobs, and fails if one is missing.

                Examples:

                  worker bench soak --duration 1h --rate 2000 --svg soak.svg > soak.csv
                  worker bench soak --duration 10m --rate 500 --handler-time 20ms --failing 20
                """
        )
    }

    @Option(help: ArgumentHelp("How long jobs are added. Defaults to 10m.", valueName: "duration"))
    var duration: DurationArgument?

    @Option(help: ArgumentHelp("Jobs added a second.", valueName: "jobs"))
    var rate = 1000

    @Option(help: ArgumentHelp("Of 100 jobs, how many fail once.", valueName: "jobs"))
    var failing = 5

    @Option(help: ArgumentHelp("Of 100 jobs, how many are for 1 to 10 s later.", valueName: "jobs"))
    var scheduled = 10

    @Option(
        help: ArgumentHelp("From one line to the next. Else a hundredth of it all, at least 1s.", valueName: "duration")
    )
    var interval: DurationArgument?

    @Option(help: ArgumentHelp("Draw it there, as SVG.", valueName: "file"), completion: .file(extensions: ["svg"]))
    var svg: String?

    @OptionGroup var load: BenchLoadOptions
    @OptionGroup var options: BenchOptions

    private var length: Duration { duration?.duration ?? .seconds(600) }
    private var step: Duration { interval?.duration ?? max(.seconds(1), length / 100) }

    func validate() throws {
        guard (1...1_000_000).contains(rate), (0...100).contains(failing), (0...100).contains(scheduled) else {
            throw ValidationError("Give a --rate of 1 to 1000000, and 0 to 100 --failing and --scheduled.")
        }
        guard length > .zero, step > .zero, step <= length else {
            throw ValidationError("Give a --duration, and an --interval that is not longer.")
        }
    }

    func run() async throws {
        let benchmark = SoakBenchmark(
            load: load.load,
            rate: Double(rate),
            duration: length,
            interval: step,
            failing: Double(failing) / 100,
            scheduled: Double(scheduled) / 100
        )
        // The chart is written only after the run, which may take hours. A path that cannot be written should fail now.
        if let svg { try Data().write(to: URL(filePath: svg)) }
        let isCSV = !options.output.json
        let report = try await BenchDatabase.with(
            options.database.database,
            isForced: options.force,
            leavesTraces: options.leaveTraces
        ) { database in
            Terminal.complain("adding \(rate) jobs a second for \(length.text)")
            if isCSV { Terminal.writeNow(SoakSample.csvHeader) }
            return try await benchmark.run(in: database) { if isCSV { Terminal.writeNow($0.csv) } }
        }
        if options.output.json { Terminal.write(report.json) }
        if let svg {
            let title = "\(rate) jobs a second, \(failing)% failing once, \(scheduled)% for later"
            try Data(report.chart(title: title).svg.utf8).write(to: URL(filePath: svg))
            Terminal.complain("drawn in \(svg)")
        }
        Terminal.complain(
            "\(report.added) jobs added, \(report.settled) done, \(report.failedRuns) runs failed, \(report.lost) lost"
        )
        guard report.lost == 0, report.deadLetters == 0 else {
            throw CommandFailure(
                .unexpected,
                "\(report.lost) jobs had not ended in time, and \(report.deadLetters) became dead letters"
            )
        }
    }
}
