import Libpq

@testable import Breakwater

/// A consumer with a test as its shell: the test answers its requests and sets the time.
struct ConsumerBench {
    var consumer: Consumer
    var now: MonotonicClock.Instant
    private(set) var lastRequestWorker: Int64 = 0
    private(set) var lastActions: [Consumer.Action] = []

    init(
        concurrency: Int = 10,
        kinds: [String: Int?] = ["k": nil],
        listens: Bool = false,
        lease: Duration = .seconds(40)
    ) {
        let now = MonotonicClock.Instant.now
        self.now = now
        let handlers = kinds.sorted { $0.key < $1.key }.map { kind, limit in
            var settings = HandlerSettings()
            settings.concurrency = limit
            return (kind: kind, settings: settings)
        }
        let settings = Consumer.Settings(
            queues: ["default"],
            handlers: handlers,
            concurrency: concurrency,
            lease: lease,
            pollInterval: .seconds(1),
            listens: listens
        )
        consumer = Consumer(settings, worker: 1, registeredAt: now)
    }

    /// A consumer that has a connection, and whose first claim is in flight.
    static func connected(concurrency: Int = 10, listens: Bool = false) -> ConsumerBench {
        var bench = ConsumerBench(concurrency: concurrency, listens: listens)
        bench.handle(.connected)
        bench.answer(.reconciled(jobs: 0))
        return bench
    }

    @discardableResult
    mutating func handle(_ event: Consumer.Event) -> [Consumer.Action] {
        note(consumer.handle(event, at: now))
    }

    /// Answers the oldest request.
    @discardableResult
    mutating func answer(_ answer: Consumer.Answer) -> [Consumer.Action] {
        guard let first = consumer.inFlight.first else { return [] }
        // The newer request's claim may be answered before the older request is durable.
        let isClaim = if case .claimed = answer { true } else { false }
        let id = isClaim ? consumer.inFlight.first { $0.claimed == nil }?.request.id : first.request.id
        return note(consumer.handle(.answered(id ?? first.request.id, answer), at: now))
    }

    /// Ends runs. The actions include the starts of the runs that replace them.
    @discardableResult
    mutating func end(
        _ starts: [HeldJobs.Start],
        _ ending: FinishedRun.Ending? = nil
    ) -> [Consumer.Action] {
        var all: [Consumer.Action] = []
        for start in starts {
            let (_, next, actions) = consumer.ended(start, .init(), at: now) { _ in ending }
            all += note((next.map { [.start($0)] } ?? []) + actions)
        }
        return all
    }

    /// Answers the claim in flight with jobs, and makes it durable.
    mutating func start(_ ids: ClosedRange<Int64>) -> [HeldJobs.Start] {
        answer(.claimed(jobs(ids)))
        return answer(.settled()).starts
    }

    /// Lets the first nine of twenty jobs fail. Five run at once, and four of them make room for others before the
    /// fifth fails.
    mutating func failNine() {
        let first = start(1...20)
        let next = end(first, .failedCall).starts
        end(next, .failedCall)
    }

    var inFlightClaim: Claim? {
        for flight in consumer.inFlight {
            if case .exchange(let claim?, _) = flight.request.work, flight.claimed == nil { return claim }
        }
        return nil
    }

    func jobs(_ ids: ClosedRange<Int64>, kind: String = "k", lease: Int64 = 1) -> [ClaimedJob] {
        ids.map { id in
            var job = Job(id: id, kind: kind)
            job.lease = lease
            job.generation = 1
            return ClaimedJob(job: job, position: id)
        }
    }

    func answerToHeartbeat(stopped: [String: Int64] = [:]) -> Beat.Output {
        Beat.Output(isAlive: true, stopped: stopped, hostsSuspect: false, isSoleConsumer: false)
    }

    private mutating func note(_ actions: [Consumer.Action]) -> [Consumer.Action] {
        lastActions = actions
        if let work = actions.request {
            switch work {
            case .exchange(let claim, let settle): lastRequestWorker = claim?.worker ?? settle?.worker ?? 0
            case .reconcile(let reconcile): lastRequestWorker = reconcile.worker
            default: break
            }
        }
        return actions
    }
}

extension [Consumer.Action] {
    var request: Request.Work? {
        for case .send(let request) in self { return request.work }
        return nil
    }

    var starts: [HeldJobs.Start] {
        compactMap { if case .start(let start) = $0 { start } else { nil } }
    }

    var claim: Claim? { if case .exchange(let claim, _)? = request { claim } else { nil } }

    var settle: Settle? {
        switch request {
        case .exchange(_, let settle): settle
        case .settleAlone(let settle): settle
        default: nil
        }
    }

    var examination: DeadLetterUnreadable? { if case .examine(let work)? = request { work } else { nil } }
    var unreadable: [Int64]? {
        for case .report(.unreadable(let ids)) in self { return ids }
        return nil
    }

    var settledAlone: Int64? { if case .settleAlone(let settle)? = request { settle.runs.first?.id } else { nil } }
    var known: [Int64]? { if case .reconcile(let reconcile)? = request { reconcile.known } else { nil } }
    var isReconciling: Bool { known != nil }
    var sleepsFor: [String]? { if case .sleep(let sleep)? = request { sleep.kinds } else { nil } }
    var polls: [String]? { if case .poll(let poll)? = request { poll.polled } else { nil } }
    var cancels: Bool { contains { if case .cancel(let slots) = $0 { !slots.isEmpty } else { false } } }
    var reconnects: Bool { contains { if case .reconnect = $0 { true } else { false } } }
    var waitsUntil: MonotonicClock.Instant? {
        for case .wait(let instant) in self { return instant }
        return nil
    }
    var stops: Bool { contains { if case .stop = $0 { true } else { false } } }
}

extension FinishedRun.Ending {
    /// A failure that its circuit counts.
    static var failedCall: FinishedRun.Ending {
        var ending = FinishedRun.Ending(outcomeClass: .failed, failure: JobFailure("x", "y"))
        ending.effect = .failed
        return ending
    }
}

extension PostgresError {
    /// The error with which the server refuses a request, with this SQLSTATE.
    static func refusal(_ sqlState: String) -> PostgresError {
        var error = PostgresError(.server, "refused")
        error.sqlState = sqlState
        return error
    }
}
