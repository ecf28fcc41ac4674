import Breakwater
import BreakwaterProcess
import Glibc
import Logging

/// One process under check. Its methods block the calling thread.
final class CheckedProcess {
    private var channel: ProcessChannel
    private let name: String
    private let logger: Logger
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: ProcessChannel.chunkBytes, alignment: 16)
    /// The messages that were read and not yet taken.
    private var messages: [ProcessMessage] = []
    /// The first breach of the protocol.
    private(set) var fault: String?
    /// How the process ended; nil while it runs.
    private(set) var end: JobFailure?

    /// Starts a process.
    ///
    /// - Parameter log: Receives the lines of its standard error.
    init(_ program: Program, maxLineBytes: Int, log: @escaping @Sendable (String) -> Void) throws(CheckFailure) {
        logger = .lines(log)
        do {
            let process = try SpawnedProcess(
                program,
                variables: ["BREAKWATER_PROTOCOL": "\(WorkerMessage.version)"]
            )
            channel = ProcessChannel(process, maxLineBytes: maxLineBytes, logger: logger)
        } catch {
            throw CheckFailure(error.failure.message)
        }
        name = program.command[0]
    }

    deinit {
        if end == nil {
            channel.process.signal(SIGKILL)
            while end == nil { pump(until: .now + .seconds(1)) }
        }
        buffer.deallocate()
    }

    func send(_ lines: [UInt8]) {
        var lines = lines
        channel.take(&lines)
        channel.write()
    }

    func closeInput() {
        channel.closeInput()
        channel.write()
    }

    /// The next message.
    ///
    /// - Parameter awaited: What is awaited, as the end of a sentence.
    func next(until deadline: ContinuousClock.Instant, _ awaited: String) throws(CheckFailure) -> ProcessMessage {
        while messages.isEmpty {
            if let fault { throw CheckFailure("\(fault)") }
            if let end { throw CheckFailure("\(end.message), and \(awaited) was awaited") }
            guard .now < deadline else { throw CheckFailure("\(awaited) did not come in time") }
            pump(until: deadline)
        }
        return messages.removeFirst()
    }

    /// The next message if there is one by then.
    func nextIfAny(until deadline: ContinuousClock.Instant) throws(CheckFailure) -> ProcessMessage? {
        while messages.isEmpty, fault == nil, end == nil, .now < deadline { pump(until: deadline) }
        if let fault, messages.isEmpty { throw CheckFailure(fault) }
        return messages.isEmpty ? nil : messages.removeFirst()
    }

    /// Waits for the exit, and requires status 0.
    func exits(until deadline: ContinuousClock.Instant) throws(CheckFailure) {
        while end == nil, .now < deadline { pump(until: deadline) }
        if let fault { throw CheckFailure(fault) }
        guard let end else { throw CheckFailure("it did not exit in time") }
        guard end.name == "exit.0" else { throw CheckFailure("\(name) ended with \(end.name) instead of status 0") }
    }

    /// Reads and writes what is possible by the deadline, but returns once something has happened.
    private func pump(until deadline: ContinuousClock.Instant) {
        var descriptors = [pollfd(fd: channel.process.exit, events: Int16(POLLIN), revents: 0)]
        let output = channel.isOutputOpen ? channel.process.output : -1
        let errors = channel.areErrorsOpen ? channel.process.errors : -1
        let input = channel.wantsToWrite ? channel.process.input : -1
        // Negative descriptors are ignored.
        descriptors.append(pollfd(fd: output, events: Int16(POLLIN), revents: 0))
        descriptors.append(pollfd(fd: errors, events: Int16(POLLIN), revents: 0))
        descriptors.append(pollfd(fd: input, events: Int16(POLLOUT), revents: 0))
        let (seconds, attoseconds) = (deadline - .now).components
        let milliseconds = max(0, min(60_000, seconds * 1000 + attoseconds / 1_000_000_000_000_000 + 1))
        guard poll(&descriptors, 4, CInt(milliseconds)) > 0 else { return }
        if descriptors[3].revents != 0 { channel.write() }
        if descriptors[1].revents != 0 { channel.readOutput(buffer, add) }
        if descriptors[2].revents != 0 { channel.readErrors(buffer) { logger } }
        if descriptors[0].revents != 0 {
            _ = channel.end(buffer, name: name, logger: { logger }, add)
        }
    }

    private func add(_ event: ProcessHost.Event) {
        switch event {
        case .message(let message): messages.append(message)
        case .fault(let breach): fault = fault ?? breach.message
        case .flood: fault = fault ?? "it wrote a line that is too long"
        case .exited(let failure, _): end = failure
        case .closed, .measured, .startFailed: break
        }
    }
}

/// The reason why a check failed.
struct CheckFailure: Error {
    var message: String

    init(_ message: String) { self.message = message }
}
