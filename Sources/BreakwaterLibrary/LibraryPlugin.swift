public import Breakwater
import CBreakwaterHandler
import Glibc
public import Logging
import Synchronization

/// Runs jobs by calling a function of a shared library, which is written in C or in a language that can be called as C:
/// C++, Rust, Zig, or Swift built as a library.
///
/// The library is loaded into the worker. It includes `breakwater_handler.h`, which documents the functions that it
/// exports and those that it may call. The article "Library handlers" explains the header with an example.
///
/// ```swift
/// let resize = try LibraryPlugin(path: "/usr/local/lib/resize.so", threads: 8)
/// ```
///
/// The library is called on threads of its own, never on those that run Swift tasks. A crash in the library is a crash
/// of the worker. A call that ignores its cancellation cannot be ended: it keeps its thread.
///
/// A worker opens the library when it starts, and closes it after its last run. Without a worker, the first run opens
/// it; call ``stop()`` at the end.
public struct LibraryPlugin: SuspendingPlugin {
    /// How many calls may run at once.
    public static let threadsRange = 1...256
    /// How large the stack of a thread may be, in bytes: 256 KiB to 1 GiB.
    public static let stackRange = 256 << 10...1 << 30
    /// How many bytes of a result may be kept: up to 1 GiB.
    public static let maxResultRange = 1...1 << 30
    /// The name of the function that a library exports.
    public static let defaultEntry = "breakwater_entry"

    private let calls: LibraryCalls
    private let maxResultBytes: Int

    /// Loads a library, unless this process has loaded it already.
    ///
    /// What the library does when it is loaded, such as constructors of C++, happens here. A library is never unloaded,
    /// and plugins with the same file share its code and its global variables.
    ///
    /// - Parameters:
    ///   - path: The library's file. It must contain a slash, because libraries are not searched for. A relative path is
    ///     relative to the worker's working directory.
    ///   - entry: The name of the function that returns the library's table of functions. Defaults to
    ///     `breakwater_entry`.
    ///   - settings: A JSON object that the library gets when it is opened. Defaults to an empty one.
    ///   - threads: The most calls at once, 1 to 256. Defaults to 4.
    ///   - stackBytes: The size of each thread's stack, 256 KiB to 1 GiB. Defaults to 8 MiB.
    ///   - maxResultBytes: How many bytes of a result are kept, 1 byte to 1 GiB. The beginning of a longer result is kept
    ///     as a JSON string. Defaults to 1 MiB.
    /// - Throws: ``LibraryPluginError``.
    public init(
        path: String,
        entry: String = LibraryPlugin.defaultEntry,
        settings: String = "{}",
        threads: Int = 4,
        stackBytes: Int = 8 << 20,
        maxResultBytes: Int = 1 << 20
    ) throws {
        try Self.check("threads", threads, Self.threadsRange)
        try Self.check("stackBytes", stackBytes, Self.stackRange)
        try Self.check("maxResultBytes", maxResultBytes, Self.maxResultRange)
        guard let object = JobResult.value(in: settings), object.hasPrefix("{") else {
            throw LibraryPluginError(.invalidSettings, "the settings are not a JSON object")
        }
        self.maxResultBytes = maxResultBytes
        calls = LibraryCalls(
            try LoadedLibrary.functions(of: path, entry: entry),
            settings: object,
            threads: threads,
            stackBytes: stackBytes
        )
    }

    private static func check(_ name: String, _ value: Int, _ range: ClosedRange<Int>) throws {
        guard !range.contains(value) else { return }
        throw LibraryPluginError(
            .invalidLimit,
            "\(name) is \(value): it must be \(range.lowerBound) to \(range.upperBound)"
        )
    }

    /// The most calls at once.
    public var capacity: Int? { calls.limit }

    /// Opens the library, and does not wait for it. Jobs wait until it is open.
    ///
    /// If the library refuses to be opened, jobs are `unable`, and the next job tries again.
    public func start(logger: Logger) async { calls.start(logger: logger) }

    /// Closes the library after its last call, and returns when its threads have ended. Later jobs are released, until
    /// the plugin is started again.
    ///
    /// Calls that still run are cancelled. If one has not returned after 2 seconds, the library is not closed, and the
    /// process will end without running what the library does at the end of a process.
    public func stop() async {
        let abandoned = await calls.stop()
        guard abandoned > 0 else { return }
        Self.endAbruptly
        calls.logger?.warning(
            "the library \(calls.functions.path) is not closed, because \(abandoned) of its calls go on although they were cancelled"
        )
    }

    /// Runs one job.
    ///
    /// - Throws: `CancellationError` if the run was cancelled and has not succeeded.
    public func run(_ job: Job, context: JobContext) async throws -> JobOutcome {
        try Task.checkCancellation()
        let run = LibraryRun(.job(context), maxResultBytes: maxResultBytes)
        let ending = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                calls.submit(run, job, context, continuation)
                // The task may have been cancelled before the queue had the run.
                if Task.isCancelled { calls.cancel(run) }
            }
        } onCancel: {
            calls.cancel(run)
        }
        switch ending {
        case .returned:
            let outcome = run.end()
            // The end of a cancelled run counts only if its work is done. A stop may end runs that nobody has cancelled.
            if Task.isCancelled, outcome.outcomeClass != .succeeded { throw CancellationError() }
            return outcome
        case .cancelled: throw CancellationError()
        case .released: return .released
        case .unable(let failure): return .unable(failure)
        }
    }

    /// The number of threads that there are now.
    package var threadCount: Int { calls.threadCount }

    /// Lets the process end without exit handlers and destructors of static variables if threads are still in a library,
    /// because these would take away what the threads use.
    private static let endAbruptly: Void = {
        // Handlers run in the opposite order, so this one runs before those of libraries that were loaded earlier.
        on_exit(
            { status, _ in
                if LibraryCalls.threadsInside > 0 { _exit(status) }
            },
            nil
        )
    }()
}
