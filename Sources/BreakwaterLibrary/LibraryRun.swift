import Breakwater
import CBreakwaterHandler
import Dispatch
import Logging
import Synchronization

/// One call of a library, as the library's functions of the host see it. It is also what the library's `open` gets, for
/// log lines that belong to no job.
final class LibraryRun: Sendable {
    /// Whom the number stands for.
    enum Owner: Sendable {
        case job(JobContext)
        case library(Logger)
    }

    private struct State {
        var outcome: JobOutcome?
        /// The length of a result that was cut.
        var cutResult: Int?
        /// The threads that wait for the cancellation.
        var waiters: [DispatchSemaphore] = []
    }

    /// The number that the library gets. No other run has it.
    let number = LibraryRun.lastNumber.wrappingAdd(1, ordering: .relaxed).newValue
    private static let lastNumber = Atomic<UInt64>(0)

    private let owner: Owner
    private let maxResultBytes: Int
    /// Where the values that the run reports are kept: where its worker wants them, or else only as long as it runs.
    private let reports: RunReports
    private let cancelled = Atomic(false)
    private let state = Mutex(State())

    init(_ owner: Owner, maxResultBytes: Int = 0) {
        self.owner = owner
        self.maxResultBytes = maxResultBytes
        reports = if case .job(let context) = owner { context.reports ?? RunReports() } else { RunReports() }
    }

    var isOfJob: Bool { if case .job = owner { true } else { false } }

    var logger: Logger {
        switch owner {
        case .job(let context): context.logger
        case .library(let logger): logger
        }
    }

    // MARK: Cancellation

    var isCancelled: Bool { cancelled.load(ordering: .acquiring) }

    func cancel() {
        cancelled.store(true, ordering: .releasing)
        let waiters = state.withLock { state in
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.signal() }
    }

    /// Blocks the library's thread until the run is cancelled or the time is over.
    func wait(milliseconds: Int64) {
        guard milliseconds > 0 else { return }
        let waiter = DispatchSemaphore(value: 0)
        let mustWait = state.withLock { state in
            // The flag is read under the lock, which ``cancel()`` takes after it has set the flag.
            if isCancelled { return false }
            state.waiters.append(waiter)
            return true
        }
        guard mustWait else { return }
        let longest: Int64 = 86_400_000 * 366
        _ = waiter.wait(timeout: .now() + .milliseconds(Int(min(milliseconds, longest))))
        state.withLock { $0.waiters.removeAll { $0 === waiter } }
    }

    // MARK: Reports

    func progress(fraction: Double?, note: String?) { reports.progress(fraction: fraction, note: note) }

    /// Saves a checkpoint.
    ///
    /// - Returns: BREAKWATER_OK, or why it was refused.
    func checkpoint(_ json: BoundedText) -> Int32 {
        guard json.length <= RunReports.longestCheckpoint else {
            logger.warning(
                "a checkpoint has \(json.length) bytes of JSON, and at most \(RunReports.longestCheckpoint) are kept, so it is not stored"
            )
            return BREAKWATER_TOO_LARGE
        }
        do throws(JobFailure) {
            guard let text = String(validating: json.bytes, as: UTF8.self) else {
                throw JobFailure("checkpoint.invalid", "a checkpoint is not valid UTF-8")
            }
            try reports.checkpoint(text)
            return BREAKWATER_OK
        } catch {
            logger.warning("\(error.message), so it is not stored")
            return BREAKWATER_INVALID
        }
    }

    // MARK: The outcome

    /// Sets the outcome.
    ///
    /// - Returns: BREAKWATER_OK, or BREAKWATER_INVALID if it is not allowed.
    func setOutcome(_ outcome: UnsafePointer<breakwater_outcome>?) -> Int32 {
        do throws(OutcomeFault) {
            let (outcome, cutResult) = try JobOutcome.read(outcome, maxResultBytes: maxResultBytes)
            state.withLock { state in
                state.outcome = outcome
                state.cutResult = cutResult
            }
            return BREAKWATER_OK
        } catch {
            let failure = JobFailure(
                "library.invalidOutcome",
                "the library set an outcome that is not allowed: \(error.message)"
            )
            state.withLock { $0.outcome = .failed(failure) }
            return BREAKWATER_INVALID
        }
    }

    /// The outcome, once the library has returned.
    func end() -> JobOutcome {
        let (outcome, cutResult) = state.withLock { ($0.outcome, $0.cutResult) }
        if let cutResult, case .succeeded = outcome {
            logger.resultWasCut(kept: maxResultBytes, of: cutResult)
        }
        if let outcome { return outcome }
        if isCancelled { return .released }
        return .failed(JobFailure("library.noOutcome", "the library returned without having set an outcome"))
    }
}

/// The runs that have not ended, by their numbers. A library may use a number at any time, also after the run's end.
enum LibraryRuns {
    private final class Part: Sendable {
        let runs = Mutex<[UInt64: LibraryRun]>([:])
    }

    /// Threads that poll for their cancellation at once rarely meet at one lock.
    private static let parts = (0..<16).map { _ in Part() }

    private static func part(of number: UInt64) -> Part { parts[Int(number % UInt64(parts.count))] }

    static subscript(number: UInt64) -> LibraryRun? { part(of: number).runs.withLock { $0[number] } }

    static func add(_ run: LibraryRun) { part(of: run.number).runs.withLock { $0[run.number] = run } }

    static func remove(_ run: LibraryRun) { part(of: run.number).runs.withLock { $0[run.number] = nil } }
}
