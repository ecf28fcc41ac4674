import Dispatch
import Synchronization
import Testing

@testable import WorkerCommand

@Suite("Log lines that are not read")
struct LogQueueTests {
    /// Keeps the lines that are written to it, and blocks writers until it is opened.
    private final class Output: LogOutput {
        private let lines = Mutex<[String]>([])
        private let isOpen: Mutex<Bool>
        private let opened = DispatchSemaphore(value: 0)

        init(isOpen: Bool) { self.isOpen = Mutex(isOpen) }

        var hasRoom: Bool { isOpen.withLock(\.self) }
        var written: [String] { lines.withLock(\.self) }

        func write(_ line: String) {
            if !hasRoom {
                opened.wait()
                opened.signal()
            }
            lines.withLock { $0.append(line) }
        }

        func open() {
            isOpen.withLock { $0 = true }
            opened.signal()
        }
    }

    @Test("a line that fits is written before the caller goes on")
    func atOnce() {
        let output = Output(isOpen: true)
        let queue = LogQueue(output) { _ in }
        queue.write("1\n")
        #expect(output.written == ["1\n"])
    }

    @Test("lines that do not fit wait in their order, and those beyond four megabytes are dropped and counted")
    func waits() {
        let output = Output(isOpen: false)
        let dropped = Mutex(0)
        let queue = LogQueue(output) { count in dropped.withLock { $0 += count } }
        let long = String(repeating: "x", count: 1 << 20)
        let lines = (0..<10).map { "\($0)\(long)\n" }
        for line in lines { queue.write(line) }
        #expect(output.written.isEmpty)
        output.open()
        queue.write("behind\n")
        queue.flush(upTo: .seconds(600))
        #expect(output.written.prefix(4) == lines.prefix(4))
        #expect(output.written.count + dropped.withLock(\.self) == 11)
        #expect(dropped.withLock(\.self) >= 6)
    }
}
