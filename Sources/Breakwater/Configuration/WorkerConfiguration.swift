public import Libpq

/// The settings of one worker.
public struct WorkerConfiguration: Sendable {
    /// The database with the jobs.
    public var database: ConnectionOptions
    /// The queues from which the worker claims jobs, the most important first. Defaults to `default` alone.
    public var queues: [String] = ["default"]
    /// The most handlers that run at once in this worker, 1 to 10,000. Defaults to 200.
    public var concurrency = 200
    /// A worker that is silent for this long loses its jobs to the others; 1 second to 1 day. Defaults to 30 seconds.
    public var lease = Duration.seconds(30)
    /// How long running handlers may continue after a shutdown signal, up to 1 day. Defaults to 30 seconds.
    public var shutdownGrace = Duration.seconds(30)
    /// How often an idle worker polls for jobs when it receives no wake-up; 10 milliseconds to 1 day. Defaults to
    /// 1 second.
    public var pollInterval = Duration.seconds(1)
    /// Whether an idle worker listens for wake-ups on a separate connection. Defaults to true. Behind a pooler this
    /// also needs ``listenDatabase``: a worker whose session is shared with others only polls.
    public var listens = true
    /// The address of the same database without its pooler, for the connection that listens, because LISTEN needs a
    /// session of its own. Nil for ``database``, the default.
    public var listenDatabase: ConnectionOptions?
    /// A name by which users recognise the worker. Defaults to the host's name and the process number.
    public var name: String
    /// The kinds that the worker runs, with their handlers.
    public var handlers: [HandlerRegistration]
    /// The schedules that this worker sets when it starts. Schedules that it does not name are left as they are. Defaults
    /// to none.
    public var schedules: [Schedule] = []

    /// - Parameters:
    ///   - database: The database with the jobs.
    ///   - handlers: The kinds that the worker runs, each once.
    ///   - name: The worker's name. Defaults to the host's name and the process number.
    public init(database: ConnectionOptions, handlers: [HandlerRegistration], name: String? = nil) {
        self.database = database
        self.handlers = handlers
        self.name = name ?? WorkerConfiguration.defaultName
    }
}
