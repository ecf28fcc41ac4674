import Breakwater
import CBreakwaterHandler
import Logging

/// The functions that libraries call.
enum HostFunctions {
    /// How much of a log line is kept, in bytes.
    static let longestLine = 8 << 10
    /// How much of a note is copied, in bytes. Fewer characters of it are kept.
    private static let longestNote = 4 << 10

    /// The table that all libraries get. It stays until the process ends.
    static var table: UnsafePointer<breakwater_host>? { UnsafePointer(bitPattern: address) }

    /// The address of the table, as a number because pointers are not Sendable.
    private static let address: UInt = {
        let table = UnsafeMutablePointer<breakwater_host>.allocate(capacity: 1)
        table.initialize(
            to: breakwater_host(
                struct_size: UInt32(MemoryLayout<breakwater_host>.size),
                abi: LibraryFunctions.version,
                is_cancelled: { HostFunctions.isCancelled($0) },
                wait: { HostFunctions.wait($0, $1) },
                progress: { HostFunctions.progress($0, $1, $2, $3) },
                checkpoint: { HostFunctions.checkpoint($0, $1, $2) },
                log: { HostFunctions.log($0, $1, $2, $3) },
                set_outcome: { HostFunctions.setOutcome($0, $1) }
            )
        )
        return UInt(bitPattern: table)
    }()

    private static func isCancelled(_ number: UInt64) -> Int32 {
        guard let run = LibraryRuns[number] else { return 1 }
        return run.isCancelled ? 1 : 0
    }

    private static func wait(_ number: UInt64, _ milliseconds: Int64) -> Int32 {
        LibraryRuns[number]?.wait(milliseconds: milliseconds)
        return isCancelled(number)
    }

    private static func progress(
        _ number: UInt64,
        _ fraction: Double,
        _ note: UnsafePointer<CChar>?,
        _ length: UInt64
    ) -> Int32 {
        guard let run = job(number) else { return BREAKWATER_ENDED }
        guard let text = BoundedText(note, length: length, limit: longestNote) else { return BREAKWATER_INVALID }
        run.progress(fraction: fraction >= 0 ? fraction : nil, note: note == nil ? nil : text.text)
        return BREAKWATER_OK
    }

    private static func checkpoint(_ number: UInt64, _ json: UnsafePointer<CChar>?, _ length: UInt64) -> Int32 {
        guard let run = job(number) else { return BREAKWATER_ENDED }
        guard let text = BoundedText(json, length: length, limit: RunReports.longestCheckpoint) else {
            return BREAKWATER_INVALID
        }
        return run.checkpoint(text)
    }

    private static func log(
        _ number: UInt64,
        _ level: Int32,
        _ message: UnsafePointer<CChar>?,
        _ length: UInt64
    ) -> Int32 {
        guard let run = LibraryRuns[number] else { return BREAKWATER_ENDED }
        guard message != nil, let level = Logger.Level(number: level),
            let text = BoundedText(message, length: length, limit: longestLine)
        else { return BREAKWATER_INVALID }
        run.logger.log(level: level, "\(text.text)")
        return BREAKWATER_OK
    }

    private static func setOutcome(_ number: UInt64, _ outcome: UnsafePointer<breakwater_outcome>?) -> Int32 {
        guard let run = job(number) else { return BREAKWATER_ENDED }
        return run.setOutcome(outcome)
    }

    /// The run of a job that has this number; nil if it has ended.
    private static func job(_ number: UInt64) -> LibraryRun? {
        LibraryRuns[number].flatMap { $0.isOfJob ? $0 : nil }
    }
}

extension Logger.Level {
    /// The level that the header gives this number.
    fileprivate init?(number: Int32) {
        switch number {
        case BREAKWATER_TRACE: self = .trace
        case BREAKWATER_DEBUG: self = .debug
        case BREAKWATER_INFO: self = .info
        case BREAKWATER_NOTICE: self = .notice
        case BREAKWATER_WARNING: self = .warning
        case BREAKWATER_ERROR: self = .error
        default: return nil
        }
    }
}
