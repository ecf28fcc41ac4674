import Breakwater
import BreakwaterProcess
import Glibc
import Logging

/// The pipes of one process, as the pool's thread uses them.
struct ProcessChannel {
    /// How much is read at once.
    static let chunkBytes = 1 << 16
    /// After the exit, at most this much of the output is read. Anything more was written by processes left behind.
    private static let maximumAfterExit = 1 << 20

    let process: SpawnedProcess
    private let maxLineBytes: Int
    /// What is to be written, and how much of it was.
    private var input: [UInt8] = []
    private var written = 0
    private(set) var isInputOpen = true
    private var closesInput = false
    private(set) var isOutputOpen = true
    private(set) var areErrorsOpen = true
    /// The beginning of a line whose end was not read yet.
    private var partial: [UInt8] = []
    /// Whether the process broke the protocol, so that nothing it writes means anything.
    private var isBroken = false
    private var errors: ErrorLog
    private var errorsPeriodEnd: ContinuousClock.Instant

    init(_ process: SpawnedProcess, maxLineBytes: Int, logger: Logger) {
        self.process = process
        self.maxLineBytes = maxLineBytes
        errors = ErrorLog(logger: logger)
        errorsPeriodEnd = .now + .seconds(60)
    }

    // MARK: Standard input

    var wantsToWrite: Bool { isInputOpen && (written < input.count || closesInput) }

    /// Takes lines to write. The given buffer is empty afterwards.
    mutating func take(_ lines: inout [UInt8]) {
        if written == input.count {
            written = 0
            input.removeAll(keepingCapacity: input.capacity <= Self.chunkBytes * 4)
            swap(&input, &lines)
        } else {
            input += lines
            lines.removeAll(keepingCapacity: true)
        }
    }

    /// Closes standard input once everything is written.
    mutating func closeInput() { closesInput = true }

    /// Writes as much as the pipe takes now.
    mutating func write() {
        while isInputOpen, written < input.count {
            let count = input.withUnsafeBytes { bytes in
                Glibc.write(process.input, bytes.baseAddress! + written, bytes.count - written)
            }
            if count > 0 {
                written += count
            } else if errno == EAGAIN {
                return
            } else if errno != EINTR {
                // The process reads no more. Its exit, or its silence, ends its jobs.
                closeInputNow()
            }
        }
        if closesInput { closeInputNow() }
    }

    private mutating func closeInputNow() {
        guard isInputOpen else { return }
        isInputOpen = false
        close(process.input)
        input = []
        written = 0
    }

    // MARK: Standard output and standard error

    /// Reads once from standard output, and adds what the lines mean.
    ///
    /// - Returns: How many bytes were read.
    @discardableResult
    mutating func readOutput(
        _ buffer: UnsafeMutableRawBufferPointer,
        _ add: (ProcessHost.Event) -> Void
    ) -> Int {
        let count = read(process.output, buffer.baseAddress, buffer.count)
        if count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR) {
            isOutputOpen = false
            add(.closed)
        }
        guard count > 0, !isBroken else { return max(0, count) }
        let chunk = UnsafeRawBufferPointer(rebasing: buffer[..<count])
        if partial.isEmpty {
            let rest = readLines(chunk, add)
            partial += chunk[rest...]
        } else {
            // Only the new bytes can hold the end of the line.
            guard let end = chunk.lineEnd(from: 0) else {
                partial += chunk
                checkPartial(add)
                return count
            }
            partial += chunk[..<end]
            if partial.count > maxLineBytes {
                isBroken = true
                add(.flood)
                return count
            }
            partial.withUnsafeBytes { line in readLine(line, add) }
            partial.removeAll(keepingCapacity: partial.capacity <= Self.chunkBytes * 4)
            let following = UnsafeRawBufferPointer(rebasing: chunk[(end + 1)...])
            let rest = readLines(following, add)
            partial += following[rest...]
        }
        checkPartial(add)
        return count
    }

    private mutating func checkPartial(_ add: (ProcessHost.Event) -> Void) {
        guard !isBroken, partial.count > maxLineBytes else { return }
        isBroken = true
        partial = []
        add(.flood)
    }

    /// Reads the complete lines, and returns where the rest begins.
    private mutating func readLines(_ bytes: UnsafeRawBufferPointer, _ add: (ProcessHost.Event) -> Void) -> Int {
        var start = 0
        while !isBroken, let end = bytes.lineEnd(from: start) {
            if end - start > maxLineBytes {
                isBroken = true
                add(.flood)
            } else {
                readLine(UnsafeRawBufferPointer(rebasing: bytes[start..<end]), add)
            }
            start = end + 1
        }
        return isBroken ? bytes.count : start
    }

    private mutating func readLine(_ line: UnsafeRawBufferPointer, _ add: (ProcessHost.Event) -> Void) {
        do {
            add(.message(try ProcessMessage(line)))
        } catch {
            isBroken = true
            add(.fault(error))
        }
    }

    /// Reads once from standard error, and logs the lines.
    @discardableResult
    mutating func readErrors(_ buffer: UnsafeMutableRawBufferPointer, logger: () -> Logger) -> Int {
        let count = read(process.errors, buffer.baseAddress, buffer.count)
        if count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR) { areErrorsOpen = false }
        guard count > 0 else { return 0 }
        errors.logger = logger()
        if .now > errorsPeriodEnd {
            errorsPeriodEnd = .now + .seconds(60)
            errors.startPeriod()
        }
        errors.append(Array(buffer[..<count]))
        return count
    }

    // MARK: The end

    /// Reads the rest of what the exited process wrote, and collects its status.
    ///
    /// - Returns: Nil if it has not exited after all.
    mutating func end(
        _ buffer: UnsafeMutableRawBufferPointer,
        name: String,
        logger: () -> Logger,
        _ add: (ProcessHost.Event) -> Void
    ) -> Bool {
        var most = Self.maximumAfterExit
        while isOutputOpen, most > 0 {
            let count = readOutput(buffer, add)
            if count == 0 { break }
            most -= count
        }
        most = Self.maximumAfterExit
        while areErrorsOpen, most > 0 {
            let count = readErrors(buffer, logger: logger)
            if count == 0 { break }
            most -= count
        }
        guard let status = process.reap() else { return false }
        let run = StrayProcessReaper.Run(mark: process.mark, program: process.number, start: process.start)
        StrayProcessReaper.killProcesses(of: [run])
        closeInputNow()
        for descriptor in [process.output, process.errors, process.exit] { close(descriptor) }
        let failure: JobFailure
        switch status {
        case .exited(let number):
            failure = JobFailure("exit.\(number)", "\(name) exited with status \(number) before it answered")
        case .signaled(let number):
            let text = strsignal(number).map { " (\(String(cString: $0)))" } ?? ""
            failure = JobFailure("signal.\(number)", "\(name) was ended by signal \(number)\(text) before it answered")
        }
        add(.exited(failure, tail: errors.finish()))
        return true
    }
}

extension UnsafeRawBufferPointer {
    /// The index of the next line feed.
    fileprivate func lineEnd(from start: Int) -> Int? {
        guard start < count, let base = baseAddress, let found = memchr(base + start, 0x0A, count - start) else {
            return nil
        }
        return found - UnsafeMutableRawPointer(mutating: base)
    }
}
