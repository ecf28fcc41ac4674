// WorkerCommand
