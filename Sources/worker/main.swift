// The command line without handlers of its own: what the configuration file names is what it runs. It alone has the
// benchmarks.

import WorkerBench
import WorkerCommand

await WorkerCommand.main(addedSubcommands: [BenchCommand.self])
