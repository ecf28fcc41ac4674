import Glibc
import Synchronization

/// Reserves file descriptors for code that must not run out of them.
///
/// Once a second, libdispatch opens a file for each of its threads, and ends the process if it cannot. So some
/// descriptors are always left for code that does not use this type. Others are reserved briefly for programs that are
/// starting.
///
/// Other code in the process can open descriptors without this type. But code that opens many at once, such as the HTTP
/// handler's client, uses ``open(_:)``.
package enum DescriptorReserve {
    /// How many descriptors are always left. The first program takes three, for the thread that starts programs and for
    /// the process group watchdog.
    private static let spare = 8
    private static let reserved = Mutex(0)

    /// Reserves descriptors.
    ///
    /// - Parameter count: The number of descriptors.
    /// - Returns: Nil if that number is free in addition to those already reserved, or else an error number.
    package static func reserve(_ count: Int) -> Int32? {
        reserved.withLock { reserved in
            let error = ProcessLimits.errorOpening(descriptors: reserved + count + spare)
            if error == nil { reserved += count }
            return error
        }
    }

    /// Releases descriptors that ``reserve(_:)`` reserved, because they have been opened or will not be.
    package static func giveBack(_ count: Int) { reserved.withLock { $0 -= count } }

    /// Opens one descriptor without using reserved ones.
    ///
    /// - Parameter open: Opens the descriptor, or returns a negative number and sets `errno`.
    /// - Returns: The descriptor, or an error number.
    package static func open(_ open: () -> Int32) -> (descriptor: Int32, error: Int32) {
        reserved.withLock { reserved in
            if let error = ProcessLimits.errorOpening(descriptors: reserved + 1 + spare) { return (-1, error) }
            let descriptor = open()
            return (descriptor, descriptor < 0 ? errno : 0)
        }
    }
}
