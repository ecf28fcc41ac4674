import Breakwater

extension ProcessPool {
    /// A process wrote a message.
    mutating func received(_ message: ProcessMessage, from place: Place, at now: Instant) {
        guard places[place] != nil else { return }
        switch message {
        case .hello(let hello):
            places[place]?.heardAt = now
            guard case .starting = places[place]?.phase else {
                if places[place]?.hello != nil { broke(place, "it said hello twice", at: now) }
                return
            }
            greeted(place, hello, at: now)
            return
        case .result(let run, let outcome):
            places[place]?.heardAt = now
            answered(run, outcome, by: place, at: now)
            return
        case .progress, .checkpoint, .heartbeat, .drain:
            break
        }
        guard places[place]?.hello != nil else {
            broke(place, "its first line is not a hello", at: now)
            return
        }
        guard isWithinAllowance(place, at: now) else {
            let text = "the process writes more than \(Int(Self.messageRate)) messages a second that are not results"
            end(place, .init(failure: JobFailure("stdio.flood", text), blamesJobs: true), at: now)
            return
        }
        switch message {
        case .progress(let run, let fraction, let note):
            if owns(place, run, what: "progress", at: now) { act(.progress(run, fraction: fraction, note: note)) }
        case .checkpoint(let run, let json):
            if owns(place, run, what: "a checkpoint", at: now) { act(.checkpoint(run, json)) }
        case .drain:
            act(.info("a process of \(name) asked to end"))
            // Processes that ask for it before they have answered a job would pile up.
            if places[place]?.answered == 0 { pause(at: now) }
            drain(place, at: now)
            startProcesses(at: now)
        case .hello, .result, .heartbeat:
            break
        }
    }

    /// A process broke the protocol.
    mutating func broke(_ place: Place, _ fault: String, at now: Instant, name: String = "stdio.protocol") {
        let failure = JobFailure(name, "the process broke the protocol: \(fault)")
        end(place, .init(failure: failure, blamesJobs: true), at: now)
    }

    /// A process writes a line that is too long.
    mutating func flooded(_ place: Place, at now: Instant) {
        let text = "the process wrote a line of more than \(settings.maxLineBytes) bytes (max_line)"
        end(place, .init(failure: JobFailure("stdio.flood", text), blamesJobs: true), at: now)
    }

    /// A process closed its standard output.
    mutating func closed(_ place: Place, at now: Instant) {
        if places[place]?.closedAt == nil { places[place]?.closedAt = now }
    }

    /// The resident memory of a process was measured.
    mutating func measured(_ place: Place, bytes: Int, at now: Instant) {
        guard let limit = settings.recycle.memoryBytes, bytes > limit else { return }
        replace(place, because: "it uses \(bytes >> 20) MiB of memory, and may use \(limit >> 20) MiB", at: now)
    }

    private mutating func answered(_ run: UInt64, _ outcome: JobOutcome, by place: Place, at now: Instant) {
        guard let found = runs[run], found.place == place, let index = places[place]?.runs.firstIndex(of: run) else {
            if places[place]?.hello == nil {
                broke(place, "its first line is not a hello", at: now)
            } else {
                broke(place, "it answered the run \(run), which it does not have (any more)", at: now)
            }
            return
        }
        places[place]?.runs.remove(at: index)
        places[place]?.answered += 1
        // The end of a cancelled run counts only if its work is done.
        let isCancelled = found.isCancelled && outcome.outcomeClass != .succeeded
        finish(run, isCancelled ? .cancelled : .outcome(outcome))
        if found.isCancelled { places[place]?.cancelled -= 1 }
        armCancelled(place, at: now)
        letEnd(place, at: now)
        if let limit = settings.recycle.jobs, let answered = places[place]?.answered, answered >= limit {
            replace(place, because: "it has run \(answered) jobs", at: now)
        }
        dispatch(at: now)
    }

    private mutating func owns(_ place: Place, _ run: UInt64, what: String, at now: Instant) -> Bool {
        if runs[run]?.place == place { return true }
        broke(place, "it reported \(what) of the run \(run), which it does not have (any more)", at: now)
        return false
    }

    /// Counts a message that is not a result. Results are limited by the jobs that the process gets.
    private mutating func isWithinAllowance(_ place: Place, at now: Instant) -> Bool {
        guard let process = places[place] else { return true }
        let earned = (now - process.allowanceAt) / .seconds(1) * Self.messageRate
        let allowance = min(Self.messageBurst, process.allowance + earned) - 1
        places[place]?.allowance = allowance
        places[place]?.allowanceAt = now
        places[place]?.heardAt = now
        return allowance >= 0
    }
}
