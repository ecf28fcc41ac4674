// The command line without registered handlers. It runs the handlers that the configuration file names.

import WorkerBench
import WorkerCommand

await WorkerCommand.main(commit: embeddedCommit, addedSubcommands: [BenchCommand.self])
