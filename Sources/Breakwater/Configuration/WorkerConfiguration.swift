public import Libpq

/// How one worker behaves.
public struct WorkerConfiguration: Sendable {
    /// Where the jobs are.
    public var database: ConnectionOptions
    /// The queues whose jobs it takes, most important first where it must choose. Defaults to `default` alone.
    public var queues: [String] = ["default"]
    /// How many handlers run at once in this worker. Defaults to 200.
    public var concurrency = 200
    /// A worker that is silent for this long loses its jobs to the others; at least 1 second. Defaults to 30 seconds.
    public var lease = Duration.seconds(30)
    /// How long running handlers may go on after a shutdown signal. Defaults to 30 seconds.
    public var shutdownGrace = Duration.seconds(30)
    /// How often an idle worker looks for jobs when no wake-up reaches it. Defaults to 1 second.
    public var pollInterval = Duration.seconds(1)
    /// Whether an idle worker listens for wake-ups on a connection of its own. Defaults to true. Behind a pooler it
    /// takes ``listenDatabase``, too: a worker that finds itself on a session that others share polls only.
    public var listens = true
    /// The same database without the pooler that is in front of it, for the connection that listens: LISTEN needs a
    /// session that stays. Nil for ``database``, the default.
    public var listenDatabase: ConnectionOptions?
    /// A name by which users recognise the worker. Defaults to the host's name and the process number.
    public var name: String
    /// The kinds it runs.
    public var handlers: [HandlerRegistration]

    /// - Parameters:
    ///   - database: Where the jobs are.
    ///   - handlers: The kinds it runs, each once.
    ///   - name: Defaults to the host's name and the process number.
    public init(database: ConnectionOptions, handlers: [HandlerRegistration], name: String? = nil) {
        self.database = database
        self.handlers = handlers
        self.name = name ?? WorkerConfiguration.defaultName
    }
}
