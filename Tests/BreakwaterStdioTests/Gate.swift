import BreakwaterTesting
import Glibc
import Testing

/// Where a handler waits until the test lets it pass.
///
/// It is a FIFO. A handler that opens it for reading is blocked until the test opens it for writing.
struct Gate {
    let path: String

    init(in directory: String) throws {
        path = directory + "/gate"
        try #require(mkfifo(path, 0o600) == 0)
    }

    /// Lets one handler pass, which is at the gate or comes to it.
    func letPass() async throws {
        try await waitUntil("a handler is at the gate") {
            // Without a reader this fails at once.
            let descriptor = open(path, O_WRONLY | O_NONBLOCK)
            guard descriptor >= 0 else { return false }
            close(descriptor)
            return true
        }
    }
}
