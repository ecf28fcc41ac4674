import Breakwater
import Glibc

/// Decides which processes there are, which job goes to which of them, and when one is ended.
///
/// It is a pure value: each method takes an event and the time, and adds to ``actions``.
struct ProcessPool {
    typealias Instant = ContinuousClock.Instant

    /// How many messages other than results a process may write at once, and how many a second.
    static let messageBurst = 5000.0
    static let messageRate = 1000.0
    /// The pause before a process is started after one that answered nothing: it doubles up to the longest.
    private static let firstPause = Duration.milliseconds(50)
    private static let longestPause = Duration.seconds(1)
    /// How long a process may live without its standard output.
    static let closedOutputGrace = Duration.seconds(1)

    let settings: StdioSettings
    /// The name of the program, for messages.
    let name: String

    var places: [Process?] = []
    var runs: [UInt64: Run] = [:]
    private var waiting = WaitingRuns()
    private var isStarted = false
    private(set) var isStopping = false
    /// How many processes in a row ended before they had answered a job.
    private var futile = 0
    /// The failure of the last start, until one succeeds.
    private var startFailure: JobFailure?
    private var mayStartAt: Instant?
    /// What is to be done.
    private(set) var actions: [Action] = []

    init(_ settings: StdioSettings, name: String) {
        self.settings = settings
        self.name = name
    }

    /// Removes and returns the actions.
    mutating func takeActions() -> [Action] {
        if actions.isEmpty { return [] }
        let taken = actions
        actions.removeAll(keepingCapacity: true)
        return taken
    }

    mutating func act(_ action: Action) { actions.append(action) }

    // MARK: Jobs

    /// Starts the processes.
    mutating func start(at now: Instant) {
        isStarted = true
        startProcesses(at: now)
    }

    /// Takes a job to run.
    mutating func submit(_ run: UInt64, _ line: [UInt8], at now: Instant) {
        guard !isStopping else {
            act(.finish(run, .outcome(.released)))
            return
        }
        runs[run] = Run(line: line)
        isStarted = true
        if waiting.isEmpty, let place = placeForNext() {
            send(run, to: place, at: now)
        } else {
            waiting.append(run)
            startProcesses(at: now)
            if let startFailure, live == 0 { failWaiting(startFailure) }
        }
    }

    /// Cancels a run. It ends when its process has answered or has ended.
    mutating func cancel(_ run: UInt64, at now: Instant) {
        guard let found = runs[run], !found.isCancelled else { return }
        guard let place = found.place else {
            // The list of waiting runs skips runs that have ended.
            finish(run, .cancelled)
            return
        }
        runs[run]?.isCancelled = true
        places[place]?.cancelled += 1
        if places[place]?.hello?.cancels == true { act(.write(place, WorkerMessage.cancel(run))) }
        armCancelled(place, at: now)
    }

    /// Sets when the process is ended for its cancelled runs. Runs that it has not started yet are not overdue.
    mutating func armCancelled(_ place: Place, at now: Instant) {
        guard let process = places[place], process.cancelled > 0 else { return }
        let killAt = now + settings.killAfter
        for run in process.runs.prefix(process.jobsAtOnce) where runs[run]?.isCancelled == true {
            if runs[run]?.killAt == nil { runs[run]?.killAt = killAt }
        }
    }

    mutating func finish(_ run: UInt64, _ ending: Ending) {
        runs[run] = nil
        act(.finish(run, ending))
    }

    /// The process for the next job: one that can run it at once, else one that has room for it to wait.
    private func placeForNext() -> Place? {
        var best: (place: Place, load: Int)?
        for (place, process) in places.enumerated() {
            guard let process, process.isReady else { continue }
            let count = process.runs.count
            guard count < process.jobsAtOnce + settings.ahead else { continue }
            // Waiting inside a process is worse than any free slot.
            let load = count < process.jobsAtOnce ? count : 1_000_000 + count
            if load < best?.load ?? .max { best = (place, load) }
        }
        return best?.place
    }

    private mutating func send(_ run: UInt64, to place: Place, at now: Instant) {
        guard let line = runs[run]?.line else { return }
        runs[run]?.place = place
        if places[place]?.runs.isEmpty == true { places[place]?.busySince = now }
        places[place]?.runs.append(run)
        act(.write(place, line))
    }

    /// Sends waiting jobs as long as a process has room.
    mutating func dispatch(at now: Instant) {
        while !waiting.isEmpty, let place = placeForNext() {
            guard let run = waiting.popFirst(where: { runs[$0] != nil }) else { return }
            send(run, to: place, at: now)
        }
    }

    // MARK: Starts

    private var live: Int { places.count { $0.map { $0.isReady || $0.isStarting } ?? false } }

    /// How many processes are missing: there are to be as many as configured, and one more while another is to be
    /// replaced. After a failed start, one at a time is started, when a job waits or a process is to be replaced.
    private var missing: Int {
        guard isStarted, !isStopping else { return 0 }
        let isReplacing = places.contains { $0?.isReady == true && $0?.isDue == true }
        let missing = max(0, settings.processes + (isReplacing ? 1 : 0) - live)
        if startFailure == nil { return missing }
        if waiting.isEmpty && !isReplacing || places.contains(where: { $0?.isStarting == true }) { return 0 }
        return min(1, missing)
    }

    /// Starts the processes that are missing, unless there is a pause.
    mutating func startProcesses(at now: Instant) {
        if let mayStartAt, now < mayStartAt { return }
        for _ in 0..<missing {
            let process = Process(
                phase: .starting(until: now + settings.startTimeout),
                startedAt: now,
                heardAt: now,
                busySince: now,
                allowanceAt: now
            )
            let place: Place
            if let free = places.firstIndex(where: { $0 == nil }) {
                places[free] = process
                place = free
            } else {
                places.append(process)
                place = places.count - 1
            }
            act(.start(place))
            let beat = settings.silence / 3
            act(
                .write(place, WorkerMessage.hello(jobs: settings.jobs, heartbeat: beat, maxLine: settings.maxLineBytes))
            )
        }
    }

    /// A process could not be started.
    mutating func startFailed(_ place: Place, _ failure: JobFailure, at now: Instant) {
        places[place] = nil
        startsFail(failure, at: now)
        endIfStopped()
    }

    private mutating func startsFail(_ failure: JobFailure, at now: Instant) {
        guard !isStopping else { return }
        act(.warn("no process of \(name) could be started: \(failure.message)"))
        startFailure = failure
        pause(at: now)
        // Jobs can still go to processes that run.
        guard !places.contains(where: { $0?.isReady == true || $0?.isStarting == true }) else { return }
        failWaiting(failure)
    }

    private mutating func failWaiting(_ failure: JobFailure) {
        for run in waiting.removeAll() where runs[run] != nil { finish(run, .outcome(.unable(failure))) }
    }

    /// Pauses before the next start, longer each time in a row.
    mutating func pause(at now: Instant) {
        futile += 1
        let pause = Self.firstPause * (1 << min(futile - 1, 10))
        mayStartAt = now + min(pause, Self.longestPause)
    }

    /// When the next process may be started, if one is missing.
    var nextStart: Instant? {
        guard let mayStartAt, missing > 0 else { return nil }
        return mayStartAt
    }

    /// A process said hello.
    mutating func greeted(_ place: Place, _ hello: ProcessMessage.Hello, at now: Instant) {
        startFailure = nil
        places[place]?.phase = .ready
        places[place]?.hello = hello
        let jobs = min(hello.jobs, settings.jobs)
        places[place]?.jobsAtOnce = jobs
        act(.info("a process of \(name) is ready" + (hello.library.map { " (\($0))" } ?? "")))
        // The process may replace another.
        while places.count(where: { $0?.isReady == true }) > settings.processes,
            let due = places.indices.first(where: { places[$0]?.isReady == true && places[$0]?.isDue == true })
        {
            drain(due, at: now)
        }
        startProcesses(at: now)
        dispatch(at: now)
    }

    /// Marks a process to be replaced. It goes on until the new one is ready.
    mutating func replace(_ place: Place, because reason: String, at now: Instant) {
        guard places[place]?.isReady == true, places[place]?.isDue == false else { return }
        places[place]?.isDue = true
        act(.info("a process of \(name) is replaced: \(reason)"))
        startProcesses(at: now)
    }

    /// Gives a process no more jobs, and lets it end after its runs.
    mutating func drain(_ place: Place, at now: Instant) {
        guard places[place]?.isReady == true else { return }
        places[place]?.phase = .draining(killAt: nil)
        letEnd(place, at: now)
    }

    /// Tells a draining process to end, if it has no run left. Its input stays open until then, so that its runs can be
    /// cancelled. A worker that stops waits for no run: it has ended or cancelled all of them.
    mutating func letEnd(_ place: Place, at now: Instant) {
        guard let process = places[place], process.phase == .draining(killAt: nil) else { return }
        guard process.runs.isEmpty || isStopping else { return }
        let killAt = now + settings.killAfter
        places[place]?.phase = .draining(killAt: killAt)
        act(.write(place, WorkerMessage.drain))
        act(.closeInput(place))
    }

    // MARK: Ends

    /// Ends a process. Its runs end when it has exited.
    mutating func end(_ place: Place, _ cause: Process.Cause, at now: Instant) {
        guard let process = places[place] else { return }
        if case .ending = process.phase { return }
        let killAt = now + settings.killAfter
        places[place]?.phase = .ending(cause, killAt: killAt)
        // Its exit is logged as a start that failed.
        if !process.isStarting { act(.warn("a process of \(name) is ended: \(cause.failure.message)")) }
        act(.closeInput(place))
        act(.signal(place, SIGTERM))
    }

    /// A process has exited, and all of its messages were handled.
    ///
    /// - Parameters:
    ///   - failure: The failure of its jobs if it ended by itself.
    ///   - tail: The end of its standard error.
    mutating func exited(_ place: Place, _ failure: JobFailure, tail: String, at now: Instant) {
        guard let process = places[place] else { return }
        places[place] = nil
        var cause = Process.Cause(failure: failure, blamesJobs: true)
        if case .ending(let known, _) = process.phase { cause = known }
        if !tail.isEmpty { cause.failure.message += ": \(tail)" }
        guard process.hello != nil else {
            var failure = cause.failure
            if case .starting = process.phase {
                failure = JobFailure("stdio.start", "\(failure.message) (before it said hello)")
            }
            startsFail(failure, at: now)
            startProcesses(at: now)
            endIfStopped()
            return
        }
        switch process.phase {
        case .ready: act(.warn("a process of \(name) ended: \(cause.failure.message)"))
        case .draining where !process.runs.isEmpty:
            act(.warn("a process of \(name) ended before it had answered its last jobs: \(cause.failure.message)"))
        // The log has said already why the process is ended.
        case .draining, .ending, .starting: break
        }
        giveBack(process, cause)
        // A process that answers no job would otherwise be started again and again without a pause.
        if process.answered > 0 {
            futile = 0
            mayStartAt = nil
        } else if !process.isDue {
            pause(at: now)
        }
        startProcesses(at: now)
        dispatch(at: now)
        endIfStopped()
    }

    /// Ends the runs of an exited process that were running, and lets those that it had not started wait for another.
    private mutating func giveBack(_ process: Process, _ cause: Process.Cause) {
        var unstarted: [UInt64] = []
        for (index, run) in process.runs.enumerated() {
            if runs[run]?.isCancelled == true {
                finish(run, .cancelled)
            } else if index >= process.jobsAtOnce, !isStopping {
                runs[run]?.place = nil
                unstarted.append(run)
            } else {
                let isBlamed = cause.blamesJobs && index < process.jobsAtOnce
                finish(run, .outcome(isBlamed ? .failed(cause.failure) : .released))
            }
        }
        waiting.prepend(unstarted)
    }

    /// Ends all processes. Jobs that wait are released.
    mutating func stop(at now: Instant) {
        isStopping = true
        for run in waiting.removeAll() where runs[run] != nil { finish(run, .outcome(.released)) }
        for place in places.indices {
            guard let process = places[place] else { continue }
            if process.isStarting {
                let failure = JobFailure("stdio.stopped", "the worker stops")
                let killAt = now + settings.killAfter
                places[place]?.phase = .ending(.init(failure: failure, blamesJobs: false), killAt: killAt)
                act(.signal(place, SIGTERM))
            } else {
                drain(place, at: now)
                letEnd(place, at: now)
            }
        }
        endIfStopped()
    }

    private mutating func endIfStopped() {
        if isStopping, places.allSatisfy({ $0 == nil }) { act(.stopped) }
    }

    /// The only job that a process can be running now; nil if there is none, or more than one.
    func onlyRun(of place: Place) -> UInt64? {
        guard places.indices.contains(place), let process = places[place] else { return nil }
        return process.jobsAtOnce == 1 || process.runs.count == 1 ? process.runs.first : nil
    }
}
