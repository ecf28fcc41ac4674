package import ArgumentParser
import WorkerCommand

/// `worker bench`: measures how fast this database inserts, claims and settles jobs.
package struct BenchCommand: AsyncParsableCommand {
    package static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "bench",
            abstract: "Measure how fast a database takes jobs in, hands them out and settles them.",
            discussion: """
                Everything is measured with real workers, at their default settings, whose handlers do nothing, on \
                kinds and queues of the benchmark's own (bench.…). The database needs the schema; one that holds \
                other jobs is refused unless --force is given. What a benchmark leaves is taken away.

                Example:

                  createdb bench
                  export DATABASE_URL=postgresql:///bench
                  worker migrate
                  worker bench drain --jobs 200000
                  worker bench latency
                  worker bench enqueue --clients 8
                  worker bench soak --duration 1h --svg soak.svg

                scripts/bench, in the sources, runs all of it beside what Postgres itself can do.
                """,
            subcommands: [
                BenchDrainCommand.self, BenchLatencyCommand.self, BenchEnqueueCommand.self, BenchSoakCommand.self,
                BenchWorkCommand.self,
            ]
        )
    }

    package init() {}
}

/// The options that all benchmarks have in common.
struct BenchOptions: ParsableArguments {
    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    @Flag(help: "Run in a database that holds other jobs, too.")
    var force = false

    @Flag(help: "Leave the benchmark's tallies, circuits and leftover jobs in the database.")
    var leaveTraces = false
}

/// The options that describe the load.
struct BenchLoadOptions: ParsableArguments {
    @Option(help: "How many kinds the jobs are of.")
    var kinds = 1

    @Option(help: "How many queues they are in.")
    var queues = 1

    @Option(help: "How many more kinds the worker handles, that have no jobs.")
    var idleKinds = 0

    @Option(help: ArgumentHelp("How long each handler takes.", valueName: "duration"))
    var handlerTime: DurationArgument?

    @Option(help: "How many handlers run at once in a worker. Else the worker's default.")
    var concurrency: Int?

    @Option(help: ArgumentHelp("The payload's member that names a job's circuit.", valueName: "member"))
    var circuitKey: String?

    @Flag(help: "Keep finished jobs in the history.")
    var history = false

    @Option(help: ArgumentHelp("With --history: the payload's member by which they are found.", valueName: "member"))
    var historyKey: String?

    @Option(help: ArgumentHelp("How often an idle worker looks for jobs.", valueName: "duration"))
    var pollInterval: DurationArgument?

    @Flag(inversion: .prefixedNo, help: "Listen for wake-ups while idle.")
    var listen = true

    @Option(help: ArgumentHelp("Run each job by this command, in a process of its own.", valueName: "words"))
    var exec: String?

    @Option(help: ArgumentHelp("Run the jobs in long-lived processes of this command.", valueName: "words"))
    var stdio: String?

    @Option(help: "How many processes there are with --stdio.")
    var stdioProcesses = 4

    @Option(help: "How many jobs a process runs at once with --stdio.")
    var stdioJobs = 1

    @Option(help: "How many more jobs are sent ahead to a process with --stdio.")
    var stdioAhead = 0

    @Option(help: ArgumentHelp("Send each job to this URL on this machine.", valueName: "url"))
    var http: String?

    @Flag(help: "Sign the requests of --http.")
    var httpSigned = false

    private var program: BenchProgram? {
        func words(_ text: String) -> [String] { text.split(separator: " ").map(String.init) }
        if let exec { return BenchProgram(plugin: .exec, command: words(exec)) }
        if let http { return BenchProgram(plugin: .http(isSigned: httpSigned), command: [http]) }
        return stdio.map { command in
            BenchProgram(
                plugin: .stdio(processes: stdioProcesses, jobs: stdioJobs, ahead: stdioAhead),
                command: words(command)
            )
        }
    }

    var load: BenchLoad {
        BenchLoad(
            kinds: kinds,
            queues: queues,
            idleKinds: idleKinds,
            handlerTime: handlerTime?.duration ?? .zero,
            concurrency: concurrency,
            circuitKey: circuitKey,
            history: history,
            historyKey: historyKey,
            pollInterval: pollInterval?.duration,
            listens: listen,
            program: program
        )
    }

    func validate() throws {
        guard [exec, stdio, http].compactMap({ $0 }).count <= 1 else {
            throw ValidationError("Give one of --exec, --stdio and --http.")
        }
        guard (1...1000).contains(kinds), (1...100).contains(queues), (0...1000).contains(idleKinds) else {
            throw ValidationError("Give 1 to 1000 --kinds, 1 to 100 --queues, and 0 to 1000 --idle-kinds.")
        }
        guard concurrency ?? 1 > 0, pollInterval?.duration ?? .seconds(1) > .zero else {
            throw ValidationError("Give a --concurrency of at least 1, and a --poll-interval above 0s.")
        }
    }
}

/// `worker bench drain`.
struct BenchDrainCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "drain",
            abstract: "Measure how fast workers settle jobs.",
            discussion: """
                Adds jobs, then lets a worker in this process run them (or several in processes of their own), and \
                counts those whose success is committed.

                Examples:

                  worker bench drain --jobs 200000
                  worker bench drain --jobs 50000 --handler-time 1ms --concurrency 256
                  worker bench drain --jobs 500000 --feed 5000    # added while others run
                  worker bench drain --jobs 5000 --exec /bin/true
                  worker bench drain --http http://127.0.0.1:8080/ --concurrency 100
                  worker bench drain --stdio "python3 handler.py" --stdio-processes 4 --stdio-ahead 32
                """
        )
    }

    @Option(help: "How many jobs.")
    var jobs = 200_000

    @Option(help: "How many worker processes.")
    var processes = 1

    @Option(help: "How many priorities the jobs have, from 0 on; 1 is 5 alone.")
    var priorities = 1

    @Option(
        help: ArgumentHelp("Add jobs while others run, this many at a time; 0 adds all beforehand.", valueName: "jobs")
    )
    var feed = 0

    @Option(help: ArgumentHelp("End after this long. Defaults to 10m.", valueName: "duration"))
    var limit: DurationArgument?

    @Flag(inversion: .prefixedNo, help: "Add the jobs; else they are there already.")
    var fill = true

    @OptionGroup var load: BenchLoadOptions
    @OptionGroup var options: BenchOptions

    func validate() throws {
        guard (1...100_000_000).contains(jobs), (1...64).contains(processes), (1...10).contains(priorities) else {
            throw ValidationError("Give 1 to 100000000 --jobs, 1 to 64 --processes, and 1 to 10 --priorities.")
        }
        guard feed >= 0, limit?.duration ?? .seconds(1) > .zero else {
            throw ValidationError("Give a --feed of 0 or more jobs, and a --limit above 0s.")
        }
    }

    func run() async throws {
        var load = load.load
        load.priorities = priorities
        let benchmark = DrainBenchmark(
            load: load,
            jobs: jobs,
            processes: processes,
            isFilled: !fill,
            feed: feed,
            limit: limit?.duration ?? .seconds(600)
        )
        let report = try await BenchDatabase.with(
            options.database.database,
            isForced: options.force,
            leavesTraces: options.leaveTraces
        ) { try await benchmark.run(in: $0) }
        if options.output.json { Terminal.write(report.json) } else { Terminal.write(report.table) }
        // The number of lost jobs is negative if jobs from elsewhere were settled during the run.
        if report.lost > 0 || report.repeated != 0 {
            throw CommandFailure(.unexpected, "\(report.lost) jobs were lost, and \(report.repeated) ran again")
        }
        if feed == 0, report.settled < jobs {
            throw CommandFailure(.refused, "only \(report.settled) of \(jobs) jobs were settled in time")
        }
    }
}

/// `worker bench latency`.
struct BenchLatencyCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "latency",
            abstract: "Measure how soon an idle worker starts a job.",
            discussion: """
                Adds jobs one at a time while a worker in this process has nothing else to do, and measures from the \
                commit to the start of the handler.

                Examples:

                  worker bench latency
                  worker bench latency --no-listen --poll-interval 200ms --jobs 100
                """
        )
    }

    @Option(help: "How many jobs.")
    var jobs = 500

    @Option(help: ArgumentHelp("From one job to the next. Defaults to 20ms.", valueName: "duration"))
    var interval: DurationArgument?

    @Option(help: ArgumentHelp("From the worker's start to the first job. Defaults to 1s.", valueName: "duration"))
    var warmUp: DurationArgument?

    @OptionGroup var load: BenchLoadOptions
    @OptionGroup var options: BenchOptions

    func validate() throws {
        guard (1...10_000_000).contains(jobs), interval?.duration ?? .seconds(1) > .zero else {
            throw ValidationError("Give 1 to 10000000 --jobs, and an --interval above 0s.")
        }
    }

    func run() async throws {
        let benchmark = LatencyBenchmark(
            load: load.load,
            jobs: jobs,
            interval: interval?.duration ?? .milliseconds(20),
            warmUp: warmUp?.duration ?? .seconds(1)
        )
        let report = try await BenchDatabase.with(
            options.database.database,
            isForced: options.force,
            leavesTraces: options.leaveTraces
        ) { try await benchmark.run(in: $0) }
        if options.output.json { Terminal.write(report.json) } else { Terminal.write(report.table) }
        if report.lost > 0 { throw CommandFailure(.refused, "\(report.lost) of \(jobs) jobs did not run in time") }
    }
}

/// `worker bench enqueue`.
struct BenchEnqueueCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "enqueue",
            abstract: "Measure how fast clients add jobs.",
            discussion: """
                Examples:

                  worker bench enqueue --clients 8
                  worker bench enqueue --batch 1000     # breakwater.enqueue_many
                """
        )
    }

    @Option(help: "How many sessions add jobs at once.")
    var clients = 1

    @Option(help: "How many jobs a statement adds; 1 is a plain INSERT.")
    var batch = 1

    @Option(help: ArgumentHelp("For how long. Defaults to 5s.", valueName: "duration"))
    var duration: DurationArgument?

    @OptionGroup var options: BenchOptions

    func validate() throws {
        guard (1...100).contains(clients), (1...100_000).contains(batch), duration?.duration ?? .seconds(5) > .zero
        else {
            throw ValidationError("Give 1 to 100 --clients, 1 to 100000 jobs a --batch, and a --duration above 0s.")
        }
    }

    func run() async throws {
        let benchmark = EnqueueBenchmark(clients: clients, batch: batch, duration: duration?.duration ?? .seconds(5))
        let report = try await BenchDatabase.with(
            options.database.database,
            isForced: options.force,
            leavesTraces: options.leaveTraces
        ) { try await benchmark.run(in: $0) }
        if options.output.json { Terminal.write(report.json) } else { Terminal.write(report.table) }
    }
}

/// `worker bench work`.
struct BenchWorkCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "work",
            abstract: "Run a worker whose handlers do nothing, until SIGTERM.",
            discussion: """
                For measuring from outside: what a worker costs at rest, or what it does to others. At the end it \
                prints how many handlers ran.

                Example:

                  worker bench work --kinds 4 --handler-time 1ms
                """
        )
    }

    @OptionGroup var load: BenchLoadOptions
    @OptionGroup var options: BenchOptions

    func run() async throws {
        let runs = RunCount()
        let load = load.load
        let stop = StopSignals()
        try await BenchDatabase.with(options.database.database, isForced: true, leavesTraces: true) { database in
            let configuration = try load.configuration(database.options, counting: runs)
            try await BenchWorker.with(configuration) { try await stop.run() }
        }
        let memory = ProcessFigures.peakMemory
        let json = JSONValue.object([
            "runs": .integer(Int64(runs.total)),
            "peak_memory_bytes": memory.map { .integer($0) } ?? .null,
        ])
        if options.output.json { Terminal.write(json) } else { Terminal.write("\(runs.total) runs") }
    }
}
