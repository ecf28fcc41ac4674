/// A kind of job, the plugin that runs it, and its settings.
public struct HandlerRegistration: Sendable {
    /// The kind of job that the plugin runs, such as `email.send`: 1 to 200 bytes.
    public var kind: String
    /// The plugin that runs the jobs.
    public var plugin: any HandlerPlugin
    /// The settings for this kind, such as concurrency, timeout, retry and circuit.
    public var settings: HandlerSettings

    /// - Parameters:
    ///   - kind: The kind of job it runs.
    ///   - plugin: The plugin that runs the jobs.
    ///   - settings: Concurrency, timeout, retry, circuit. Defaults to the defaults of each.
    public init(kind: String, plugin: any HandlerPlugin, settings: HandlerSettings = HandlerSettings()) {
        self.kind = kind
        self.plugin = plugin
        self.settings = settings
    }

    /// Registers a handler written in Swift.
    ///
    /// - Parameters:
    ///   - kind: The kind of job it runs, which has the handler's payload.
    ///   - handler: The handler.
    ///   - settings: Concurrency, timeout, retry, circuit. Defaults to the defaults of each.
    public init<Handler: JobHandler>(
        kind: JobKind<Handler.Payload>,
        handler: Handler,
        settings: HandlerSettings = HandlerSettings()
    ) {
        self.init(kind: kind.name, plugin: SwiftPlugin(handler: handler), settings: settings)
    }

    /// Registers a function as a handler.
    ///
    /// ```swift
    /// HandlerRegistration(kind: .sendEmail) { payload, context in
    ///     try await mailer.send(to: payload.to)
    ///     return .succeeded()
    /// }
    /// ```
    ///
    /// - Parameters:
    ///   - kind: The kind of job it runs.
    ///   - settings: Concurrency, timeout, retry, circuit. Defaults to the defaults of each.
    ///   - handle: Runs one job; see ``JobHandler/handle(_:context:)``.
    public init<Payload: Decodable>(
        kind: JobKind<Payload>,
        settings: HandlerSettings = HandlerSettings(),
        handle: @escaping @Sendable (_ payload: Payload, _ context: JobContext) async throws -> JobOutcome
    ) {
        self.init(kind: kind, handler: FunctionHandler(function: handle), settings: settings)
    }
}

/// A function as a handler.
private struct FunctionHandler<Payload: Decodable & Sendable>: JobHandler {
    var function: @Sendable (Payload, JobContext) async throws -> JobOutcome

    func handle(_ payload: Payload, context: JobContext) async throws -> JobOutcome {
        try await function(payload, context)
    }
}

/// The settings for one kind's handler.
public struct HandlerSettings: Sendable, Equatable {
    /// The most jobs of this kind that run at once in one worker, 1 to 10,000; nil for the worker's own limit. Defaults
    /// to nil.
    public var concurrency: Int?
    /// How long one run may take before it is cancelled and counts as failed; 1 millisecond to ten years (3650 days).
    /// Defaults to 60 seconds.
    public var timeout = Duration.seconds(60)
    /// When and how often failed jobs run again.
    public var retry = RetryPolicy()
    /// When the kind's circuit opens and closes.
    public var circuit = CircuitPolicy()
    /// How long results stay in `breakwater.result`, up to 3650 days; zero keeps none. Defaults to zero.
    public var keepResults = Duration.zero
    /// What is kept of the kind's jobs after they have ended; nil for nothing. Defaults to nil.
    public var history: JobHistory?
    /// The limits of the kind in the whole fleet. Each must have another name, and at most one without a name may have
    /// no key. Defaults to none.
    public var limits: [JobLimit] = []
    /// The bounds of the kind's adaptive concurrency in the whole fleet: it grows and shrinks with what the dependency
    /// takes. nil: no adaptive limit. Each bound is 1 to 1,000,000. Defaults to nil.
    public var adapt: ClosedRange<Int>?
    /// The order of the jobs of each key; nil for none. Defaults to nil.
    public var order: KeyOrder?
    /// The path of the payload's value that names a tenant, such as `["tenant"]`: tenants with waiting jobs share the
    /// slots of the kind evenly, or by their weights. nil: jobs run in their order. Defaults to nil.
    public var share: [String]?

    /// The defaults.
    public init() {}
}
