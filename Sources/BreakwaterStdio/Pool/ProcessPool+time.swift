import Breakwater
import Glibc

extension ProcessPool {
    /// Does what is due by now.
    mutating func tick(at now: Instant) {
        for place in places.indices {
            guard let process = places[place] else { continue }
            if let due = deadline(of: process), now >= due { act(on: place, process, at: now) }
        }
        if let nextStart, now >= nextStart { startProcesses(at: now) }
    }

    /// When the next ``tick(at:)`` is needed; nil if only an event can change anything.
    var nextDeadline: Instant? {
        var next = nextStart
        for process in places {
            guard let process, let due = deadline(of: process) else { continue }
            next = min(next ?? due, due)
        }
        return next
    }

    /// When the process is silent for too long; nil while it needs not write.
    private func silenceEnd(of process: Process) -> Instant? {
        guard process.hello?.sendsHeartbeats == true, !process.runs.isEmpty else { return nil }
        return max(process.heardAt, process.busySince) + settings.silence
    }

    /// When a cancelled run of the process is overdue.
    private func cancelEnd(of process: Process) -> Instant? {
        guard process.cancelled > 0 else { return nil }
        return process.runs.prefix(process.jobsAtOnce).compactMap { runs[$0]?.killAt }.min()
    }

    /// When a process without standard output is ended. A process that exits closes it too, a moment earlier.
    private func outputEnd(of process: Process) -> Instant? {
        process.isReady || !process.runs.isEmpty ? process.closedAt.map { $0 + Self.closedOutputGrace } : nil
    }

    private func deadline(of process: Process) -> Instant? {
        switch process.phase {
        case .starting(let until): return until
        case .ending(_, let killAt): return killAt
        case .ready, .draining: break
        }
        var due = silenceEnd(of: process)
        func include(_ instant: Instant?) {
            if let instant { due = min(due ?? instant, instant) }
        }
        include(cancelEnd(of: process))
        include(outputEnd(of: process))
        switch process.phase {
        case .draining(let killAt): include(killAt)
        case .ready where !process.isDue: include(settings.recycle.age.map { process.startedAt + $0 })
        case .ready, .starting, .ending: break
        }
        return due
    }

    private mutating func act(on place: Place, _ process: Process, at now: Instant) {
        func isOver(_ instant: Instant?) -> Bool { instant.map { now >= $0 } ?? false }
        switch process.phase {
        case .starting:
            let text = "the process did not say hello within \(settings.startTimeout) (start_timeout)"
            end(place, .init(failure: JobFailure("stdio.start", text), blamesJobs: true), at: now)
        case .ending(let cause, _):
            places[place]?.phase = .ending(cause, killAt: nil)
            act(.signal(place, SIGKILL))
        case .ready, .draining:
            if isOver(silenceEnd(of: process)) {
                let text = "the process wrote nothing for \(settings.silence) while it had a job (silence)"
                end(place, .init(failure: JobFailure("stdio.silent", text), blamesJobs: true), at: now)
            } else if isOver(cancelEnd(of: process)) {
                let text = "the process went on for \(settings.killAfter) with a cancelled run (kill_after)"
                end(place, .init(failure: JobFailure("stdio.cancel", text), blamesJobs: false), at: now)
            } else if isOver(outputEnd(of: process)) {
                broke(place, "it closed its standard output", at: now)
            } else if case .draining(let killAt) = process.phase, isOver(killAt) {
                let text = "the process did not exit within \(settings.killAfter) after its last run (kill_after)"
                end(place, .init(failure: JobFailure("stdio.drain", text), blamesJobs: false), at: now)
            } else if let age = settings.recycle.age, now >= process.startedAt + age {
                replace(place, because: "it has run for \(age)", at: now)
            }
        }
    }
}
