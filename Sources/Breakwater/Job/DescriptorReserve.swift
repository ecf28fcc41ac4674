import Glibc
import Synchronization

/// Descriptors that are set aside for code that must not run out of them.
///
/// Once a second, libdispatch opens a file for each of its threads, and ends the process if it cannot. So some are
/// always left for code that does not ask here. Others are set aside for a moment, for programs that are starting.
///
/// A process's other threads can always open descriptors. But code that opens many at once, such as the HTTP handler's
/// client, opens them through here.
package enum DescriptorReserve {
    /// This many are always left. The first program takes six: for swift-subprocess's threads, and for the orphan
    /// guard.
    private static let spare = 8
    private static let reserved = Mutex(0)

    /// Sets descriptors aside.
    ///
    /// - Parameter count: How many.
    /// - Returns: Nil if that number is free beside the descriptors that are set aside already; else an error number.
    package static func reserve(_ count: Int) -> Int32? {
        reserved.withLock { reserved in
            let error = ProcessLimits.errorOpening(descriptors: reserved + count + spare)
            if error == nil { reserved += count }
            return error
        }
    }

    /// Ends what ``reserve(_:)`` began: they have been opened, or will not be.
    package static func giveBack(_ count: Int) { reserved.withLock { $0 -= count } }

    /// Opens one descriptor that is not set aside.
    ///
    /// - Parameter open: Opens it, or returns a negative number and sets `errno`.
    /// - Returns: The descriptor, or an error number.
    package static func open(_ open: () -> Int32) -> (descriptor: Int32, error: Int32) {
        reserved.withLock { reserved in
            if let error = ProcessLimits.errorOpening(descriptors: reserved + 1 + spare) { return (-1, error) }
            let descriptor = open()
            return (descriptor, descriptor < 0 ? errno : 0)
        }
    }
}
