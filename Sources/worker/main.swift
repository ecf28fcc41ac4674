// The command line without handlers of its own: what the configuration file names is what it runs.

import WorkerCommand

await WorkerCommand.main()
